#include "configs/validate.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "configs/ranges.h"
#include "configs/stages.h"
#include "kernels/base/check.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

constexpr double kMostParameters = 1e15;                     // times 16 bytes of state stays within 63 bits
constexpr int64_t kMostExpertsOnCuda = 3072;                 // kernels/cuda/sort.h
constexpr int64_t kMostMicroBatchTokens = int64_t{1} << 28;  // times any width times 4 bytes stays within 63 bits
constexpr double kMostTokens = 4e18;                         // token positions are 63-bit integers

// A field that a path leads to; an absent message reads as its defaults.
struct Located {
  const Message* parent;
  const FieldDescriptor* field;
  bool set() const { return parent->GetReflection()->HasField(*parent, field); }
};

Located Locate(const Message& root, absl::string_view path) {
  Located located{&root, nullptr};
  for (absl::string_view name : absl::StrSplit(path, '.')) {
    if (located.field != nullptr) {
      located.parent = &located.parent->GetReflection()->GetMessage(*located.parent, located.field);
    }
    located.field = located.parent->GetDescriptor()->FindFieldByName(std::string(name));
    JEVONS_CHECK(located.field != nullptr, "the rules name a field that does not exist: %.*s", static_cast<int>(path.size()),
                 path.data());
  }
  return located;
}

// The divisor of n nearest to x, among those up to `most`.
int64_t NearestDivisor(int64_t n, int64_t x, int64_t most) {
  int64_t best = 1;
  const auto consider = [&](int64_t d) {
    if (d <= most && std::abs(d - x) < std::abs(best - x)) best = d;
  };
  for (int64_t d = 1; d * d <= n; ++d) {
    if (n % d != 0) continue;
    consider(d);
    consider(n / d);
  }
  return best;
}

int64_t NearestMultiple(int64_t unit, int64_t x) { return std::max(unit, (x + unit / 2) / unit * unit); }

class Checker {
 public:
  Checker(const RunConfig& config, int world_size) : config_(config), world_size_(world_size) {}

  std::vector<Violation> Run() {
    Ranges();
    Layers();
    Experts();
    Attention();
    Data();
    Batches();
    LearningRate();
    Stages("balance.bias_speed", config_.balance().bias_speed(), 1);
    Stages("balance.mtp_weight", config_.balance().mtp_weight(), 10);
    Parallel();
    Cost();
    Log();
    Sizes();
    LaterStages();
    return std::move(violations_);
  }

 private:
  using List = google::protobuf::RepeatedPtrField<TokenStep>;

  void Add(const std::string& field, const std::string& value, const std::string& rule, const std::string& nearest = "") {
    violations_.push_back({field, value, rule, nearest});
  }
  void Add(const std::string& field, int64_t value, const std::string& rule, int64_t nearest) {
    Add(field, absl::StrCat(value), rule, absl::StrCat(nearest));
  }
  void AddReal(const std::string& field, double value, const std::string& rule, double nearest) {
    Add(field, absl::StrCat(value), rule, absl::StrCat(nearest));
  }

  // Rules between fields hold only where each field is legal by itself.
  bool Legal(std::initializer_list<absl::string_view> fields) const {
    return std::none_of(violations_.begin(), violations_.end(), [&](const Violation& violation) {
      return std::find(fields.begin(), fields.end(), absl::string_view(violation.field)) != fields.end();
    });
  }

  bool HasDense() const { return config_.model().dense_layers() > 0; }
  bool HasMoe() const { return config_.model().layers() > config_.model().dense_layers() || config_.model().mtp().depth() > 0; }
  bool Applies(When when) const {
    const TrainConfig& train = config_.train();
    return when == When::kAlways || (when == When::kDense && HasDense()) || (when == When::kMoe && HasMoe()) ||
           (when == When::kSteps && (train.has_steps() || (train.tokens() == 0 && train.dollars() == 0)));
  }

  void Ranges() {
    for (const IntRange& range : kIntRanges) {
      if (Applies(range.when)) CheckInt(range, Locate(config_, range.path));
    }
    for (const RealRange& range : kRealRanges) {
      const Located at = Locate(config_, range.path);
      if (at.set() || !range.optional) CheckReal(range.path, at, range.min, range.max);
    }
  }

  void CheckInt(const IntRange& range, const Located& at) {
    const int64_t value = at.parent->GetReflection()->GetInt64(*at.parent, at.field);
    const std::string rule = absl::StrCat("must be from ", range.min, " to ", range.max);
    if (!at.set() && !at.field->has_default_value() && range.min > 0) {
      Add(range.path, "not set", rule);
    } else if (value < range.min || value > range.max) {
      Add(range.path, value, rule, std::clamp(value, range.min, range.max));
    }
  }

  void CheckReal(const std::string& path, const Located& at, double min, double max) {
    const double value = at.parent->GetReflection()->GetDouble(*at.parent, at.field);
    const std::string rule = absl::StrCat("must be from ", min, " to ", max);
    if (!at.set() && !at.field->has_default_value()) {
      Add(path, "not set", rule);
    } else if (std::isnan(value)) {
      AddReal(path, value, rule, at.field->has_default_value() ? at.field->default_value_double() : min);
    } else if (value < min || value > max) {
      AddReal(path, value, rule, std::clamp(value, min, max));
    }
  }

  void Layers() {
    const ModelConfig& model = config_.model();
    if (model.vocab_size() == 1) Add("model.vocab_size", 1, "must be 0 (the data's) or at least 2", 2);
    if (Legal({"model.layers", "model.dense_layers"}) && model.dense_layers() > model.layers()) {
      Add("model.dense_layers", model.dense_layers(), absl::StrCat("must be at most model.layers = ", model.layers()),
          model.layers());
    }
  }

  void Experts() {
    const MoeConfig& moe = config_.model().moe();
    const int64_t experts = moe.routed_experts(), groups = moe.groups(), kept = moe.kept_groups(), top_k = moe.top_k();
    if (!HasMoe() || !Legal({"model.moe.routed_experts", "model.moe.groups", "model.moe.kept_groups"})) return;
    if (experts % groups != 0) {
      Add("model.moe.routed_experts", experts, absl::StrCat("must be divisible by model.moe.groups = ", groups),
          NearestMultiple(groups, experts));
      return;
    }
    if (config_.parallel().backend() == CUDA && experts > kMostExpertsOnCuda) {
      Add("model.moe.routed_experts", experts,
          "must be at most 3072 with parallel.backend = CUDA, whose kernels sort rows by expert in shared memory",
          kMostExpertsOnCuda / groups * groups);
      return;
    }
    if (kept > groups) {
      Add("model.moe.kept_groups", kept, absl::StrCat("must be at most model.moe.groups = ", groups), groups);
      return;
    }
    if (!Legal({"model.moe.top_k"})) return;
    const int64_t reachable = kept * (experts / groups);
    if (top_k > reachable) {
      Add("model.moe.top_k", top_k,
          absl::StrCat("must be at most ", reachable, ", the experts in model.moe.kept_groups = ", kept, " groups of ",
                       experts / groups),
          reachable);
    }
  }

  void Attention() {
    const AttentionConfig& attention = config_.model().attention();
    if (Legal({"model.attention.rope_dim"}) && attention.rope_dim() % 2 != 0) {
      Add("model.attention.rope_dim", attention.rope_dim(), "must be even: it is made of pairs", attention.rope_dim() + 1);
    }
    const YarnConfig& yarn = attention.yarn();
    if (Legal({"model.attention.yarn.beta_fast", "model.attention.yarn.beta_slow"}) && yarn.beta_fast() < yarn.beta_slow()) {
      AddReal("model.attention.yarn.beta_fast", yarn.beta_fast(),
              absl::StrCat("must be at least model.attention.yarn.beta_slow = ", yarn.beta_slow()), yarn.beta_slow());
    }
  }

  void Data() {
    const DataConfig& data = config_.data();
    const int64_t depth = config_.model().mtp().depth();
    if (Legal({"model.mtp.depth", "data.sequence_length"}) && depth >= data.sequence_length()) {
      Add("model.mtp.depth", depth, absl::StrCat("must be less than data.sequence_length = ", data.sequence_length()),
          data.sequence_length() - 1);
    }
    for (int i = 0; i < data.mixture_size(); ++i) {
      const std::string entry = absl::StrCat("data.mixture[", i, "]");
      if (data.mixture(i).prefix().empty()) Add(entry + ".prefix", "not set", "must name PREFIX.bin and PREFIX.idx");
      CheckReal(entry + ".weight", Locate(data.mixture(i), "weight"), 0, 1e9);
    }
  }

  void Batches() {
    const TrainConfig& train = config_.train();
    const int64_t batch = train.batch_sequences(), micro = train.micro_batch_sequences();
    const int64_t length = config_.data().sequence_length();
    const bool legal = Legal({"train.batch_sequences", "train.micro_batch_sequences"});
    if (legal && batch % micro != 0) {
      Add("train.micro_batch_sequences", micro, absl::StrCat("must divide train.batch_sequences = ", batch),
          NearestDivisor(batch, micro, batch));
    }
    if (legal && Legal({"data.sequence_length"}) && micro * length > kMostMicroBatchTokens) {
      Add("train.micro_batch_sequences", micro,
          absl::StrCat("times data.sequence_length = ", length, " must be at most ", kMostMicroBatchTokens, " tokens"),
          std::max<int64_t>(1, kMostMicroBatchTokens / length));
    }
    if (!legal || !Legal({"train.batch_ramp_start", "train.batch_ramp_tokens"})) return;
    if (train.batch_ramp_start() > batch) {
      Add("train.batch_ramp_start", train.batch_ramp_start(), absl::StrCat("must be at most train.batch_sequences = ", batch),
          batch);
    }
    if (train.batch_ramp_start() > 0 && train.batch_ramp_tokens() == 0) {
      Add("train.batch_ramp_tokens", "0", "must be positive where train.batch_ramp_start is set");
    }
    if (train.batch_ramp_start() == 0 && train.batch_ramp_tokens() > 0) {
      AddReal("train.batch_ramp_tokens", train.batch_ramp_tokens(), "must be 0 where train.batch_ramp_start is 0, no ramp", 0);
    }
  }

  void LearningRate() {
    const LearningRateConfig& rate = config_.optimizer().learning_rate();
    const std::string base = "optimizer.learning_rate.";
    if (Legal({base + "peak", base + "final", base + "decay_tokens"})) {
      if (rate.decay_tokens() == 0 && rate.decay_fraction() == 0 && rate.final() != 0) {
        AddReal(base + "final", rate.final(),
                absl::StrCat("must be 0 where ", base, "decay_tokens and decay_fraction are 0, no decay"), 0);
      } else if (rate.final() > rate.peak()) {
        AddReal(base + "final", rate.final(), absl::StrCat("must be at most ", base, "peak = ", rate.peak()), rate.peak());
      }
    }
    if (rate.decay_fraction() > 0 && (rate.constant_tokens() > 0 || rate.decay_tokens() > 0 || rate.tail_size() > 0))
      AddReal(base + "decay_fraction", rate.decay_fraction(),
              "must be 0 where constant_tokens, decay_tokens or tail say how the rate goes", 0);
    if (const TrainConfig& train = config_.train(); rate.decay_fraction() > 0 && !train.has_steps() && train.tokens() == 0)
      AddReal(base + "decay_fraction", rate.decay_fraction(),
              "must be 0 where neither train.steps nor train.tokens ends the run: its last share is not known", 0);
    Stages(base + "tail", rate.tail(), 10);
    const double end = rate.constant_tokens() + rate.decay_tokens();
    if (rate.tail_size() > 0 && Legal({base + "constant_tokens", base + "decay_tokens", base + "tail[0].tokens"}) &&
        rate.tail(0).tokens() < end) {
      AddReal(base + "tail[0].tokens", rate.tail(0).tokens(),
              "must not come before the end of the decay, constant_tokens + decay_tokens", end);
    }
  }

  // Stages ascend in tokens; values are from 0 to `most`.
  void Stages(const std::string& path, const List& stages, double most) {
    for (int i = 0; i < stages.size(); ++i) {
      const std::string entry = absl::StrCat(path, "[", i, "]");
      CheckReal(entry + ".tokens", Locate(stages[i], "tokens"), 0, 1e18);
      CheckReal(entry + ".value", Locate(stages[i], "value"), 0, most);
      if (i > 0 && Legal({entry + ".tokens"}) && !(stages[i].tokens() > stages[i - 1].tokens())) {
        Add(entry + ".tokens", absl::StrCat(stages[i].tokens()),
            absl::StrCat("must be greater than the stage's before it, ", stages[i - 1].tokens()));
      }
    }
  }

  void Parallel() {
    const ParallelConfig& parallel = config_.parallel();
    if (!Legal({"parallel.ep", "parallel.pp", "model.moe.routed_experts"})) return;
    const int64_t ep = parallel.ep(), pp = parallel.pp(), experts = HasMoe() ? config_.model().moe().routed_experts() : 1;
    if (world_size_ > 0 && world_size_ % pp != 0)
      return Add("parallel.pp", pp, absl::StrCat("must divide the ", world_size_, " ranks of this run"),
                 NearestDivisor(world_size_, pp, world_size_));
    const int64_t ranks = world_size_ > 0 ? world_size_ / pp : ep;
    if (ranks % ep != 0) {
      Add("parallel.ep", ep,
          absl::StrCat("must divide the ", ranks, " ranks of ",
                       pp > 1 ? "a stage: this run's divided by parallel.pp" : "this run"),
          NearestDivisor(ranks, ep, experts));
    } else if (ep > experts) {
      Add("parallel.ep", ep,
          HasMoe() ? absl::StrCat("must be at most model.moe.routed_experts = ", experts)
                   : "must be 1 in a model without experts",
          NearestDivisor(ranks, ep, experts));
    }
  }

  void Cost() {
    const CostConfig& cost = config_.cost();
    if (cost.device().empty()) Add("cost.device", "\"\"", "must name what is priced", "leave it out, or a name such as \"H800\"");
    const bool known = cost.has_price_per_device_hour() || config_.parallel().backend() == CUDA;  // a GPU's price has a default
    if (config_.train().dollars() > 0 && (!known || (cost.has_price_per_device_hour() && cost.price_per_device_hour() == 0)))
      Add("cost.price_per_device_hour", known ? "0" : "not set", "must be positive where train.dollars ends the run");
    if (cost.reference_mfu() > 0 && cost.peak_tflops() == 0)
      Add("cost.peak_tflops", "0",
          "must be positive where cost.reference_mfu is set: a peak that is measured is as noisy as the machine");
  }

  void Log() {
    const std::string& file = config_.log().prometheus();
    if (!file.empty() && (!absl::EndsWith(file, ".prom") || file == ".prom" || absl::EndsWith(file, "/.prom")))
      Add("log.prometheus", file, "must be a file's name that ends in .prom: node_exporter reads no others");
  }

  void Sizes() {
    if (!violations_.empty()) return;
    const double parameters = ApproximateParameters(config_.model());
    if (parameters > kMostParameters) {
      AddReal("model", parameters, "the parameters must be at most", kMostParameters);
    }
    const TrainConfig& train = config_.train();
    const double step_tokens = static_cast<double>(train.batch_sequences()) * config_.data().sequence_length();
    if (train.steps() * step_tokens > kMostTokens) {
      Add("train.steps", train.steps(), absl::StrCat("times the tokens of a step must be at most ", kMostTokens),
          static_cast<int64_t>(kMostTokens / step_tokens));
    }
  }

  // Each later stage obeys the rules of a run, its fields by their own names; what is wrong from the beginning is said once.
  void LaterStages() {
    const std::vector<RunConfig> stages = StageConfigs(config_);
    const std::vector<Violation> before = violations_;
    for (int i = 0; i < config_.train().stage_size(); ++i) {
      CheckBeginning(i);
      const std::string entry = absl::StrCat("train.stage[", i, "].");
      CheckMixture(config_.train().stage(i), entry);
      for (Violation& violation : Checker(stages[static_cast<size_t>(i) + 1], world_size_).Run()) {
        const auto same = [&](const Violation& other) { return other.ToString() == violation.ToString(); };
        if (absl::StartsWith(violation.field, "data.mixture") || std::any_of(before.begin(), before.end(), same)) continue;
        violation.field = entry + NameInStage(violation.field);
        violations_.push_back(std::move(violation));
      }
    }
  }

  void CheckMixture(const StageConfig& stage, const std::string& entry) {
    const auto& datasets = config_.data().mixture();
    for (int i = 0; i < stage.mixture_size(); ++i) {
      const std::string& prefix = stage.mixture(i).prefix();
      const std::string dataset = absl::StrCat(entry, "mixture[", i, "]");
      if (std::none_of(datasets.begin(), datasets.end(), [&](const DatasetConfig& known) { return known.prefix() == prefix; }))
        Add(dataset + ".prefix", absl::StrCat("\"", prefix, "\""), "must be one of data.mixture, whose weight may be 0 before");
      CheckReal(dataset + ".weight", Locate(stage.mixture(i), "weight"), 0, 1e9);
    }
  }

  void CheckBeginning(int i) {
    const auto& stages = config_.train().stage();
    const StageConfig& stage = stages[i];
    const std::string entry = absl::StrCat("train.stage[", i, "]");
    if (stage.has_from_step() == stage.has_from_tokens())
      return Add(entry, stage.has_from_step() ? "from_step and from_tokens" : "neither from_step nor from_tokens",
                 "must begin at one of the two");
    if (stage.has_from_step()) {
      CheckInt({(entry + ".from_step").c_str(), 1, 10 * kBillion}, Locate(stage, "from_step"));
    } else {
      CheckReal(entry + ".from_tokens", Locate(stage, "from_tokens"), 1, kMostTokens);
    }
    if (i == 0) return;
    const StageConfig& previous = stages[i - 1];
    const bool steps = stage.has_from_step() && previous.has_from_step() && stage.from_step() <= previous.from_step();
    const bool tokens = stage.has_from_tokens() && previous.has_from_tokens() && stage.from_tokens() <= previous.from_tokens();
    if (steps)
      Add(entry + ".from_step", absl::StrCat(stage.from_step()),
          absl::StrCat("must be greater than that of the stage before it, ", previous.from_step()));
    if (tokens)
      Add(entry + ".from_tokens", absl::StrCat(stage.from_tokens()),
          absl::StrCat("must be greater than that of the stage before it, ", previous.from_tokens()));
  }

  // As train.stage calls a field of the run that it sets; else the field's own path.
  static std::string NameInStage(absl::string_view field) {
    constexpr std::pair<absl::string_view, absl::string_view> kNames[] = {
        {"data.sequence_length", "sequence_length"},
        {"train.batch_sequences", "batch_sequences"},
        {"train.micro_batch_sequences", "micro_batch_sequences"},
        {"model.attention.yarn", "yarn"},
        {"optimizer.learning_rate", "learning_rate"}};
    for (const auto& [run, stage] : kNames)
      if (absl::StartsWith(field, run)) return absl::StrCat(stage, field.substr(run.size()));
    return std::string(field);
  }

  // To within the norms, in floating point: no size can overflow it.
  static double ApproximateParameters(const ModelConfig& model) {
    const AttentionConfig& a = model.attention();
    const MoeConfig& moe = model.moe();
    const double hidden = model.hidden_size(), heads = a.heads(), query = heads * (a.nope_dim() + a.rope_dim());
    const double attention = (a.query_rank() > 0 ? a.query_rank() * (hidden + query) : hidden * query) +
                             hidden * (a.kv_rank() + a.rope_dim()) + heads * (a.nope_dim() + a.value_dim()) * a.kv_rank() +
                             hidden * heads * a.value_dim();
    const double dense = 3.0 * hidden * model.dense_intermediate_size();
    const double experts =
        (3.0 * moe.intermediate_size() * (moe.routed_experts() + moe.shared_experts()) + moe.routed_experts()) * hidden;
    const double blocks = model.layers() + model.mtp().depth();
    return 2 * hidden * model.vocab_size() + blocks * attention + model.dense_layers() * dense +
           (blocks - model.dense_layers()) * experts + 2 * hidden * hidden * model.mtp().depth();
  }

  const RunConfig& config_;
  int world_size_;
  std::vector<Violation> violations_;
};

}  // namespace

std::string Violation::ToString() const {
  return absl::StrCat(field, " = ", value, ": ", rule, nearest.empty() ? "" : "; nearest legal: ", nearest);
}

std::vector<Violation> Validate(const RunConfig& config, int world_size) { return Checker(config, world_size).Run(); }

absl::Status ValidationStatus(const RunConfig& config, int world_size) {
  const std::vector<Violation> violations = Validate(config, world_size);
  if (violations.empty()) return absl::OkStatus();
  return UsageError(absl::StrJoin(
      violations, "\n", [](std::string* out, const Violation& violation) { absl::StrAppend(out, violation.ToString()); }));
}

}  // namespace jevons
