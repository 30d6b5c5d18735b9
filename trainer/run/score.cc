#include "trainer/run/score.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/ops/softmax_xent.h"
#include "trainer/model/head.h"
#include "trainer/model/stage.h"
#include "trainer/spec/hf_names.h"
#include "trainer/step/planned_memory.h"

namespace jevons {
namespace {

constexpr char kInputIds[] = "input_ids", kLogprobs[] = "logprobs", kLoss[] = "loss";
constexpr int64_t kMaxLength = 16'000'000;            // of a sequence: as far as positions go (configs/ranges.h)
constexpr int64_t kMaxArenaBytes = int64_t{1} << 46;  // half of a process's address space

ModelConfig WithDepth(ModelConfig model, int64_t depth) {
  model.mutable_mtp()->set_depth(depth);
  return model;
}

std::span<const float> Values(const Tensor& tensor) { return {tensor.as<float>(), static_cast<size_t>(tensor.size())}; }

bool AllFinite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

// Address space for the activations of one sequence on one rank: TrainStep's rule.
int64_t ArenaBytes(RunConfig config, int64_t length) {
  *config.mutable_parallel() = {};
  config.mutable_data()->set_sequence_length(length);
  config.mutable_data()->set_document_mask(false);
  config.mutable_train()->set_micro_batch_sequences(1);
  MtpConfig& mtp = *config.mutable_model()->mutable_mtp();
  mtp.set_depth(std::min(mtp.depth(), length - 1));  // a module further on has no position in such a sequence
  return 2 * PlanMemory(config, {.world = 1, .pp = 1, .ep = 1}, 0).use.activations + (int64_t{4} << 30);
}

absl::Status CheckLength(int64_t arena_bytes, int64_t length) {
  if (arena_bytes <= kMaxArenaBytes) return absl::OkStatus();
  return IntegrityError(
      absl::StrFormat("%s has sequences of %d tokens, whose activations need %d GiB; cut them into shorter ones", kInputIds,
                      length, arena_bytes >> 30));
}

double MeanLoss(std::span<const float> logprobs) {
  return -std::accumulate(logprobs.begin(), logprobs.end(), 0.0) / static_cast<double>(logprobs.size());
}

}  // namespace

absl::StatusOr<TokenTable> ReadTokens(FileSystem& files, const std::string& path, int64_t vocab) {
  JEVONS_ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(files, path));
  const SafetensorsEntry* entry = file.Find(kInputIds);
  if (entry == nullptr)
    return IntegrityError(
        absl::StrFormat("%s: there is no tensor %s; it must have one, I64 [sequences, tokens]", path, kInputIds));
  if (entry->dtype != kStI64 || entry->shape.size() != 2 || entry->shape[0] < 1 || entry->shape[1] < 2 ||
      entry->shape[1] > kMaxLength)
    return IntegrityError(
        absl::StrFormat("%s: %s is %s; it must be I64 [sequences, tokens] with 1 sequence or more and 2 to "
                        "%d tokens, for each token but the first is predicted",
                        path, kInputIds, DescribeTensor(*entry), kMaxLength));
  TokenTable table{.sequences = entry->shape[0], .length = entry->shape[1], .ids = {}};
  table.ids.resize(static_cast<size_t>(entry->elements));
  std::vector<int64_t> row(static_cast<size_t>(table.length));
  const auto row_bytes = static_cast<int64_t>(row.size() * sizeof(int64_t));
  for (int64_t b = 0; b < table.sequences; ++b) {
    JEVONS_RETURN_IF_ERROR(file.Read(*entry, b * row_bytes, std::as_writable_bytes(std::span(row))));
    for (int64_t i = 0; i < table.length; ++i) {
      const int64_t id = row[static_cast<size_t>(i)];
      if (id < 0 || id >= vocab)
        return IntegrityError(absl::StrFormat("%s: %s[%d, %d] = %d: it must be a token of the model, 0 to %d", path, kInputIds, b,
                                              i, id, vocab - 1));
      table.ids[static_cast<size_t>(b * table.length + i)] = static_cast<int32_t>(id);
    }
  }
  return table;
}

std::vector<TrainStep::ScoredSequence> SequencesOf(const TokenTable& tokens) {
  std::vector<TrainStep::ScoredSequence> sequences;
  for (auto row = tokens.ids.begin(); row != tokens.ids.end(); row += tokens.length)
    sequences.push_back({.tokens = {row, row + tokens.length}, .scored = 1});
  return sequences;
}

absl::StatusOr<RunConfig> ConfigForScores(RunConfig config, int64_t length) {
  JEVONS_RETURN_IF_ERROR(CheckLength(ArenaBytes(config, length) * config.parallel().ep(), length));
  PrecisionConfig weights;
  weights.set_compute(config.precision().compute());
  *config.mutable_precision() = weights;
  config.mutable_model()->mutable_mtp()->set_depth(0);
  if (length <= config.data().sequence_length()) return config;
  config.mutable_data()->set_sequence_length(length);
  config.mutable_train()->set_micro_batch_sequences(1);
  return config;
}

absl::StatusOr<double> WriteLogprobs(FileSystem& files, const std::string& path, const TokenTable& tokens,
                                     std::span<const std::vector<TokenScore>> scores) {
  std::vector<float> logprobs;
  for (const std::vector<TokenScore>& sequence : scores)
    for (const TokenScore& score : sequence) logprobs.push_back(score.logprob);
  const auto loss = static_cast<float>(MeanLoss(logprobs));
  JEVONS_ASSIGN_OR_RETURN(
      SafetensorsWriter writer,
      SafetensorsWriter::Create(files, path, {{kLogprobs, kStF32, {tokens.sequences, tokens.length - 1}}, {kLoss, kStF32, {1}}}));
  for (const SafetensorsSpec& spec : writer.order())
    JEVONS_RETURN_IF_ERROR(
        writer.Append(std::as_bytes(spec.name == kLoss ? std::span<const float>(&loss, 1) : std::span<const float>(logprobs))));
  JEVONS_RETURN_IF_ERROR(writer.Finish());
  return MeanLoss(logprobs);
}

absl::StatusOr<std::unique_ptr<Scorer>> Scorer::Create(const RunConfig& config, const TokenTable& tokens,
                                                       const ScoreOptions& options, Communicator& world) {
  const int64_t depth = config.model().mtp().depth(), arena_bytes = ArenaBytes(config, tokens.length);
  if (options.mtp && depth == 0) return UsageError("--mtp: the model has no MTP module (model.mtp.depth = 0)");
  if (options.mtp && tokens.length <= depth)
    return IntegrityError(absl::StrFormat("--mtp: %s has sequences of %d tokens; MTP module %d needs %d or more", kInputIds,
                                          tokens.length, depth, depth + 1));
  JEVONS_RETURN_IF_ERROR(CheckLength(arena_bytes, tokens.length));
  return std::unique_ptr<Scorer>(new Scorer(config, arena_bytes, tokens, options, world));
}

Scorer::Scorer(const RunConfig& config, int64_t arena_bytes, const TokenTable& tokens, const ScoreOptions& options,
               Communicator& world)
    : full_(config.model()),
      model_config_(WithDepth(full_, options.mtp ? full_.mtp().depth() : 0)),
      tokens_(tokens),
      options_(options),
      compute_(ComputeDType(config)),
      arena_bytes_(arena_bytes),
      memory_("activations", arena_bytes),
      scratch_("scratch", arena_bytes),
      dispatcher_(world, RoutingOf(full_.moe())),
      weights_(model_config_, dispatcher_.local_experts(), compute_),
      binding_(model_config_, weights_),
      model_(model_config_, tokens.length, dispatcher_),
      logprobs_(static_cast<size_t>(tokens.sequences * (tokens.length - 1))) {}

LayerContext Scorer::Context() {
  return {.ops = {.stream = {}, .scratch = &scratch_},
          .memory = &memory_,
          .dtype = compute_,
          .timer = &timer_,
          .non_finite = &non_finite_};
}

MicroBatch Scorer::Batch(int64_t sequence, std::vector<int32_t>& row) const {
  const auto* ids = tokens_.ids.data() + sequence * tokens_.length;
  row.assign(ids, ids + tokens_.length);
  row.push_back(-1);  // nothing is known to follow: no input, and an ignored label
  return {.sequences = 1,
          .sequence_length = tokens_.length,
          .tokens = Tensor::Of(row.data(), {1, tokens_.length + 1}),
          .document_start = {}};
}

absl::Status Scorer::CheckFinite(int64_t sequence, bool finite) const {
  if (non_finite_.tensor != nullptr)
    return NumericalError(
        absl::StrFormat("sequence %d: NaN or Inf, first seen in layer %d: %s", sequence, non_finite_.layer, non_finite_.tensor));
  if (!finite) return NumericalError(absl::StrFormat("sequence %d: NaN or Inf, first seen in the output head", sequence));
  return absl::OkStatus();
}

absl::Status Scorer::ForLogits(int64_t k, const LogitVisit& visit) {
  const LayerContext ctx = Context();
  std::vector<int32_t> row;
  for (int64_t b = 0; b < tokens_.sequences; ++b) {
    ArenaScope scope(scratch_);
    const MicroBatch batch = Batch(b, row);
    std::vector<Tensor> hidden;
    for (int64_t module = 0; module <= k; ++module)
      hidden.push_back(ctx.Temp("hidden", {tokens_.length - module, full_.hidden_size()}));
    model_.Hidden(ctx, binding_.weights(), batch, hidden);
    absl::Status status = CheckFinite(b, true);
    VisitLogits(ctx, binding_.weights().head.value, hidden.back(), [&](int64_t begin, const Tensor& logits) {
      if (status.ok()) status = visit(b, begin, logits);
    });
    JEVONS_RETURN_IF_ERROR(status);
  }
  return absl::OkStatus();
}

absl::Status Scorer::FillLogprobs(SafetensorsWriter* logits_out) {
  const int64_t S = tokens_.length;
  std::vector<int32_t> labels;
  std::vector<float> losses;
  return ForLogits(0, [&](int64_t b, int64_t begin, const Tensor& logits) -> absl::Status {
    const int64_t rows = logits.rows(), predicted = std::min(rows, S - 1 - begin);
    const int32_t* next = tokens_.ids.data() + b * S + begin + 1;
    labels.assign(next, next + predicted);
    labels.resize(static_cast<size_t>(rows), -1);
    losses.resize(static_cast<size_t>(rows));
    CrossEntropy(Context().ops, logits, Tensor::Of(labels.data(), {rows}), Tensor::Of(losses.data(), {rows}));
    JEVONS_RETURN_IF_ERROR(CheckFinite(b, AllFinite(losses)));
    std::transform(losses.begin(), losses.begin() + predicted, logprobs_.begin() + b * (S - 1) + begin,
                   [](float loss) { return -loss; });
    return logits_out == nullptr ? absl::OkStatus() : logits_out->Append(std::as_bytes(Values(logits)));
  });
}

absl::Status Scorer::SumGradients() {
  const LayerContext ctx = Context();
  const ModelConfig config = WithDepth(full_, 0);
  const Model main(config, tokens_.length, dispatcher_);  // MTP has no part in the loss
  std::vector<int64_t> counts(static_cast<size_t>(main.moe_layers() * config.moe().routed_experts()));
  std::vector<double> losses(static_cast<size_t>(main.loss_terms()));
  const auto labels = static_cast<double>(logprobs_.size());
  const LossScales scales{.main = static_cast<float>(1.0 / labels), .mtp = 0, .balance = 0};

  gradients_ = std::make_unique<GradientStore>(weights_, CHAIN);
  gradients_->Begin(ctx.ops, {});
  binding_.BindGradients(*gradients_);
  MicroPool pool(arena_bytes_, Device::kCpu);
  NetworkStage whole(main, {.layers = {0, config.layers()}}, pool);
  std::vector<int32_t> row;
  const MicroBatchTotals totals{.losses = losses.data(),
                                .counts = Tensor::Of(counts.data(), {main.moe_layers(), config.moe().routed_experts()})};
  whole.Begin({.ctx = ctx,
               .weights = &binding_.weights(),
               .batch = [&](int b) { return Batch(b, row); },
               .scales = scales,
               .totals = [&](int) { return totals; }});
  for (int64_t b = 0; b < tokens_.sequences; ++b) {
    whole.Forward(static_cast<int>(b)).Finish();
    whole.Backward(static_cast<int>(b)).Finish();
    non_finite_ = whole.non_finite();
    JEVONS_RETURN_IF_ERROR(CheckFinite(b, std::isfinite(losses[0])));
  }
  gradients_->Finish(ctx.ops);
  return absl::OkStatus();
}

void Scorer::AddGradientOutputs(std::vector<Output>& outputs) {
  const std::vector<ParamSpec> specs = ParameterTable(full_);
  for (size_t p = 0; p < specs.size(); ++p) {
    for (const PublishedTensor& tensor : PublishedTensors(specs[p])) {
      outputs.push_back({{absl::StrCat("grad.", tensor.name), kStF32, tensor.shape}, {}});
      const auto size = static_cast<size_t>(SafetensorsBytes(outputs.back().spec)) / sizeof(float);
      outputs.back().write = [this, p, begin = static_cast<size_t>(tensor.begin), size,
                              name = tensor.name](SafetensorsWriter& writer) -> absl::Status {
        if (p >= weights_.specs().size()) {  // of an MTP module, which the loss does not see
          const std::vector<float> zeros(size, 0.0f);
          return writer.Append(std::as_bytes(std::span(zeros)));
        }
        const std::span<const float> values = Values(gradients_->Whole(p)).subspan(begin, size);
        if (!AllFinite(values)) return NumericalError(absl::StrFormat("the gradient of %s is NaN or Inf", name));
        return writer.Append(std::as_bytes(values));
      };
    }
  }
}

std::vector<Scorer::Output> Scorer::Outputs() {
  const int64_t B = tokens_.sequences, S = tokens_.length, V = full_.vocab_size();
  std::vector<Output> outputs;
  outputs.push_back({{kLogprobs, kStF32, {B, S - 1}}, [this](SafetensorsWriter& writer) -> absl::Status {
                       // Where logits are written they come first, and these with them.
                       if (!options_.logits) JEVONS_RETURN_IF_ERROR(FillLogprobs(nullptr));
                       return writer.Append(std::as_bytes(std::span(logprobs_)));
                     }});
  outputs.push_back({{kLoss, kStF32, {1}}, [this](SafetensorsWriter& writer) {
                       const auto loss = static_cast<float>(MeanLoss(logprobs_));
                       return writer.Append(std::as_bytes(std::span(&loss, 1)));
                     }});
  if (options_.logits)
    outputs.push_back({{"logits", kStF32, {B, S, V}}, [this](SafetensorsWriter& writer) { return FillLogprobs(&writer); }});
  for (int64_t k = 1; k <= model_config_.mtp().depth(); ++k)
    outputs.push_back({{absl::StrCat("mtp_logits.", k), kStF32, {B, S - k, V}}, [this, k](SafetensorsWriter& writer) {
                         return ForLogits(k, [&](int64_t b, int64_t, const Tensor& logits) -> absl::Status {
                           JEVONS_RETURN_IF_ERROR(CheckFinite(b, AllFinite(Values(logits))));
                           return writer.Append(std::as_bytes(Values(logits)));
                         });
                       }});
  if (options_.gradients) AddGradientOutputs(outputs);
  return outputs;
}

absl::StatusOr<double> Scorer::Write(FileSystem& files, const std::string& path) {
  std::vector<SafetensorsSpec> specs;
  std::map<std::string, std::function<absl::Status(SafetensorsWriter&)>> write;
  for (Output& output : Outputs()) {
    specs.push_back(output.spec);
    write[output.spec.name] = std::move(output.write);
  }
  JEVONS_ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::Create(files, path, std::move(specs)));
  if (options_.gradients) JEVONS_RETURN_IF_ERROR(SumGradients());
  for (const SafetensorsSpec& spec : writer.order()) JEVONS_RETURN_IF_ERROR(write.at(spec.name)(writer));
  JEVONS_RETURN_IF_ERROR(writer.Finish());
  return MeanLoss(logprobs_);
}

}  // namespace jevons
