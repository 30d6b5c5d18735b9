#include "trainer/model/stage.h"

#include <algorithm>

#include "kernels/ops/elementwise.h"
#include "kernels/ops/embedding.h"
#include "trainer/model/head.h"
#include "trainer/model/norm.h"

namespace jevons {

namespace {

constexpr const char* kUseNames[MicroPool::kUses] = {"micro-batch, until B", "micro-batch, until W", "micro-batch, stash",
                                                     "message between stages"};

MicroPool::Slices LargestFirst(const std::map<std::string, int64_t>& sums) {
  MicroPool::Slices slices(sums.begin(), sums.end());
  std::stable_sort(slices.begin(), slices.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  return slices;
}

}  // namespace

std::unique_ptr<Arena> MicroPool::Take(Use use) { return std::make_unique<Arena>(kUseNames[use], heap_); }

Arena& MicroPool::TakeScratch(Arena& first) {
  const bool free = taken_scratch_.empty();
  JEVONS_CHECK(free || (taken_scratch_.size() == 1 && taken_scratch_[0] == &first),
               "a third action begins while two are under way");
  if (!free && second_scratch_ == nullptr)
    second_scratch_ = std::make_unique<Arena>("scratch of the other of a pair", bytes_, heap_.device());
  return *taken_scratch_.emplace_back(free ? &first : second_scratch_.get());
}

void MicroPool::GiveScratch(Arena& scratch) { std::erase(taken_scratch_, &scratch); }

int64_t MicroPool::peak_bytes() const {
  return heap_.peak_bytes() + (second_scratch_ == nullptr ? 0 : second_scratch_->peak_bytes());
}

MicroPool::Slices MicroPool::SlicesOf(std::initializer_list<Use> uses) const {
  std::map<std::string, int64_t> sums;
  for (const Heap::Use& part : heap_.PeakUse())
    for (const Use use : uses)
      if (part.owner == kUseNames[use]) sums[part.name] += part.bytes;
  return LargestFirst(sums);
}

int64_t MicroPool::HoleBytes() const {
  for (const Heap::Use& part : heap_.PeakUse())
    if (part.owner.empty()) return part.bytes;
  return 0;
}

MicroPool::Slices MicroPool::TemporarySlices(std::vector<const Arena*> arenas) const {
  if (second_scratch_ != nullptr) arenas.push_back(second_scratch_.get());
  std::map<std::string, int64_t> sums;
  for (const Arena* arena : arenas)
    for (const auto& [name, bytes] : arena->PeakSlices()) sums[name] += bytes;
  return LargestFirst(sums);
}

namespace {

std::span<std::byte> BytesOf(const Tensor& tensor) {
  return {static_cast<std::byte*>(tensor.data), static_cast<size_t>(tensor.bytes())};
}

// The scratch of one action, until it is over.
class ActionScratch {
 public:
  ActionScratch(MicroPool& pool, LayerContext& ctx)
      : pool_(pool), arena_(pool.TakeScratch(*ctx.ops.scratch)), mark_(arena_.Save()) {
    ctx.ops.scratch = &arena_;
  }
  ~ActionScratch() {
    arena_.Release(mark_);
    pool_.GiveScratch(arena_);
  }
  ActionScratch(const ActionScratch&) = delete;
  ActionScratch& operator=(const ActionScratch&) = delete;

 private:
  MicroPool& pool_;
  Arena& arena_;
  const Arena::Mark mark_;
};

// Counts each phase's time as `phase`, whatever runs between them.
Phases Timed(PhaseTimer* timer, Phase phase, Phases work) {
  for (;;) {
    {
      const PhaseScope scope(timer, phase);
      if (!work.Next()) co_return;
    }
    co_await NextPhase();
  }
}

}  // namespace

// One micro-batch at this stage, from its input to its weight gradients.
struct NetworkStage::Open {
  int micro_batch = 0;
  MicroMemory memory;
  WgradQueue wgrad;
  MicroBatch batch;
  RowLayout rows;
  Tensor input, ids;  // [T,H]: of the first block; [T] I32 where the embedding is
  std::vector<BlockSaved> blocks;
  std::vector<Marks> marks;  // [blocks] where what each keeps begins

  // Of the last stage. Index 0: of the main model.
  Tensor x, rstd;                             // the final norm's input and 1/rms
  std::vector<Tensor> d_hidden;               // gradient of what each head reads; complete when the next module has run backward
  std::vector<Tensor> mtp_ids, mtp_embedded;  // [modules]
  std::vector<RowLayout> mtp_rows;
  std::vector<MtpSaved> mtp;
  std::vector<Marks> mtp_marks;

  Tensor output_gradient;  // [T,H], of another stage
  int64_t received_rows = 0;
};

NetworkStage::NetworkStage(const Model& model, const StagePart& part, MicroPool& pool)
    : model_(model), part_(part), pool_(pool) {}
NetworkStage::~NetworkStage() = default;

void NetworkStage::Begin(const StageStep& step) {
  JEVONS_CHECK(open_.empty(), "%zu micro-batches of the last step are open", open_.size());
  step_ = step;
  non_finite_ = {};
}

NetworkStage::Open& NetworkStage::OpenMicroBatch(int micro_batch) {
  auto& open = open_[micro_batch];
  JEVONS_CHECK(open == nullptr, "micro-batch %d is open", micro_batch);
  open = std::make_unique<Open>();
  open->micro_batch = micro_batch;
  open->memory.until_b = pool_.Take(MicroPool::kUntilB);
  open->memory.until_w = pool_.Take(MicroPool::kUntilW);
  open->batch = step_.batch(micro_batch);
  open->rows = model_.RowsOf(Context(*open), open->batch, 0);
  return *open;
}

NetworkStage::Open& NetworkStage::At(int micro_batch) {
  const auto found = open_.find(micro_batch);
  JEVONS_CHECK(found != open_.end(), "micro-batch %d is not open", micro_batch);
  return *found->second;
}

LayerContext NetworkStage::Context(Open& open) {
  LayerContext ctx = step_.ctx;
  ctx.memory = &open.memory;
  ctx.wgrad = &open.wgrad;
  if (ctx.non_finite != nullptr) ctx.non_finite = &non_finite_;
  return ctx;
}

void NetworkStage::TakeStash(Open& open) {
  if (open.memory.stash == nullptr) open.memory.stash = pool_.Take(MicroPool::kStash);
}

void NetworkStage::Close(int micro_batch) { open_.erase(micro_batch); }

bool NetworkStage::KeepsGradient(const LayerContext& ctx, int64_t layer) const {
  return model_.block(layer).KeepsGradient(ctx, step_.weights->blocks[static_cast<size_t>(layer)]);
}

Tensor NetworkStage::MakeMessage(std::map<int, Message>& messages, const Open& open, const char* name) {
  Message& message = messages[open.micro_batch];
  JEVONS_CHECK(message.arena == nullptr, "the %s of micro-batch %d has not been sent", name, open.micro_batch);
  message.arena = pool_.Take(MicroPool::kMessage);
  return message.tensor = message.arena->Allocate(name, step_.ctx.dtype, {open.rows.rows(), model_.config().hidden_size()});
}

void NetworkStage::ReleaseMessage(std::map<int, Message>& messages, int micro_batch) {
  const auto found = messages.find(micro_batch);
  JEVONS_CHECK(found != messages.end(), "micro-batch %d has no message", micro_batch);
  messages.erase(found);
}

std::span<std::byte> NetworkStage::Input(int micro_batch) {
  if (part_.first) return {};
  Open& open = OpenMicroBatch(micro_batch);
  open.input = Context(open).Save("stage.input", {open.rows.rows(), model_.config().hidden_size()});
  return BytesOf(open.input);
}

std::span<const std::byte> NetworkStage::Output(int micro_batch) {
  return part_.last ? std::span<std::byte>() : BytesOf(outputs_.at(micro_batch).tensor);
}

void NetworkStage::ReleaseOutput(int micro_batch) {
  if (!part_.last) ReleaseMessage(outputs_, micro_batch);
}

std::span<std::byte> NetworkStage::OutputGradient(int micro_batch) {
  if (part_.last) return {};
  Open& open = At(micro_batch);
  TakeStash(open);
  const LayerContext ctx = Context(open);
  Arena& place = !part_.layers.empty() && KeepsGradient(ctx, part_.layers.end - 1) ? *open.memory.stash : *open.memory.until_b;
  open.output_gradient = place.Allocate("stage.output_gradient", ctx.dtype, {open.rows.rows(), model_.config().hidden_size()});
  return BytesOf(open.output_gradient);
}

std::span<const std::byte> NetworkStage::InputGradient(int micro_batch) {
  return part_.first ? std::span<std::byte>() : BytesOf(input_gradients_.at(micro_batch).tensor);
}

void NetworkStage::ReleaseInputGradient(int micro_batch) {
  if (!part_.first) ReleaseMessage(input_gradients_, micro_batch);
}

BlockStats NetworkStage::StatsOf(const Open& open, int64_t moe_layer) const {
  if (moe_layer < 0) return {};
  const MicroBatchTotals totals = step_.totals(open.micro_batch);
  return {.balance_loss = totals.losses + 1 + model_.config().mtp().depth() + moe_layer,
          .counts = totals.counts.Index(moe_layer),
          .received_rows = 0};
}

Phases NetworkStage::Forward(int micro_batch) { return Timed(step_.ctx.timer, Phase::kForward, RunForward(micro_batch)); }

Phases NetworkStage::RunForward(int micro_batch) {
  Open& open = part_.first ? OpenMicroBatch(micro_batch) : At(micro_batch);
  LayerContext ctx = Context(open);
  const ActionScratch scratch(pool_, ctx);
  const bool seen = non_finite_.tensor != nullptr;
  if (part_.first) {
    open.ids = model_.Ids(ctx, open.batch, 0);
    open.input = ctx.Save("embedding.rows", {open.rows.rows(), model_.config().hidden_size()});
    Embedding(ctx.ops, step_.weights->embedding.value, open.ids, open.input);
  }
  if (step_.forward_only) {
    ForwardAlone(ctx, open);
    Close(micro_batch);
  } else {
    co_await ForwardPass(ctx, open, step_.recompute ? Pass::kFirst : Pass::kOnly);
    if (const int64_t even = model_.EvenRows(part_.layers, part_.last, open.batch.sequence_length) * open.batch.sequences;
        even > 0)
      peak_load_ = std::max(peak_load_, static_cast<double>(open.received_rows) / static_cast<double>(even));
  }
  if (!seen && non_finite_.tensor != nullptr) non_finite_.micro_batch = micro_batch;
}

// What the first of two passes makes lies in a memory of its own, a block's until the next.
Phases NetworkStage::ForwardPass(const LayerContext& ctx, Open& open, Pass pass) {
  Tensor x = open.input;
  const auto count = static_cast<size_t>(part_.layers.size());
  open.blocks.resize(count);
  open.marks.clear();
  const bool passing = pass == Pass::kFirst;
  const Tensor places[] = {passing ? ctx.Temp("stream", x.shape) : Tensor(), passing ? ctx.Temp("stream", x.shape) : Tensor()};
  for (size_t i = 0; i < count; ++i) {
    const int64_t layer = part_.layers.begin + static_cast<int64_t>(i);
    open.marks.push_back(MarksOf(open.memory));
    MicroMemory own;
    const LayerContext here = passing ? Passing(ctx, open, own) : ctx;
    const bool leaves = !part_.last && i + 1 == count && pass != Pass::kSecond;
    const Tensor y = leaves    ? MakeMessage(outputs_, open, "stage.output")
                     : passing ? places[i % 2]
                               : ctx.Save("block.y", x.shape);
    BlockStats stats = StatsOf(open, model_.moe_layer(layer));
    co_await model_.block(layer).Forward(here, step_.weights->blocks[static_cast<size_t>(layer)], open.rows, x, y, open.blocks[i],
                                         stats);
    co_await NextPhase();
    if (pass != Pass::kSecond) open.received_rows += stats.received_rows;
    x = y;
  }
  if (part_.last) {
    co_await ForwardHeads(ctx, open, pass, x);
  } else if (count == 0 && pass != Pass::kSecond) {
    Copy(ctx.ops, x, MakeMessage(outputs_, open, "stage.output"));
  }
}

LayerContext NetworkStage::Passing(const LayerContext& ctx, Open& open, MicroMemory& own) {
  own.until_b = pool_.Take(MicroPool::kUntilB);
  own.until_w = pool_.Take(MicroPool::kUntilW);
  LayerContext passing = ctx;
  passing.memory = &own;
  passing.routing = open.memory.until_b.get();
  return passing;
}

Phases NetworkStage::ForwardHeads(const LayerContext& outer, Open& open, Pass pass, Tensor x) {
  const ModelWeights& weights = *step_.weights;
  const MicroBatchTotals totals = step_.totals(open.micro_batch);
  const int64_t depth = model_.config().mtp().depth(), S = open.batch.sequence_length, H = model_.config().hidden_size();
  MicroMemory own;
  const LayerContext ctx = pass == Pass::kFirst ? Passing(outer, open, own) : outer;
  const auto head = [&](const Tensor& hidden, int64_t k, float scale) {
    if (pass == Pass::kSecond) return;
    open.d_hidden.push_back(outer.Save("d_hidden", hidden.shape));
    const ArenaScope scope(*ctx.ops.scratch);
    const Tensor labels = ctx.TempAs("head.labels", DType::kI32, {hidden.rows()});
    CopyPositions(ctx.ops, open.batch.tokens, k + 1, S - k, labels);
    HeadLossAndGradient(ctx, weights.head, hidden, labels, scale, open.d_hidden.back(), totals.losses + k);
  };
  open.x = x;
  open.rstd = ctx.SaveAs("final.rstd", DType::kF32, {open.rows.rows()});
  const Tensor hidden = ctx.Save("final.hidden", x.shape);
  model_.FinalNorm(ctx, weights, x, hidden, open.rstd);
  head(hidden, 0, step_.scales.main);
  Tensor previous = hidden;
  open.mtp.resize(static_cast<size_t>(depth));
  open.mtp_rows.resize(static_cast<size_t>(depth));
  open.mtp_marks.clear();
  open.mtp_ids.clear();
  for (int64_t k = 1; k <= depth; ++k) {
    const auto i = static_cast<size_t>(k - 1);
    open.mtp_marks.push_back(MarksOf(open.memory));
    RowLayout& rows = open.mtp_rows[i];
    rows = model_.RowsOf(ctx, open.batch, k);
    open.mtp_ids.push_back(model_.Ids(ctx, open.batch, k));
    const Tensor embedded = ctx.Save("embedding.rows", {rows.rows(), H}), out = ctx.Save("mtp.out", {rows.rows(), H});
    Embedding(ctx.ops, weights.embedding.value, open.mtp_ids.back(), embedded);
    BlockStats stats = StatsOf(open, model_.moe_layer(model_.config().layers() + k - 1));
    co_await model_.mtp(i).Forward(ctx, weights.mtp[i], rows, embedded, previous, out, open.mtp[i], stats);
    co_await NextPhase();
    if (pass != Pass::kSecond) open.received_rows += stats.received_rows;
    head(out, k, step_.scales.mtp);
    previous = out;
  }
}

void NetworkStage::ForwardAlone(const LayerContext& ctx, Open& open) {
  const ModelWeights& weights = *step_.weights;
  const Tensor x =
      model_.ForwardBlocks(ctx, weights, part_.layers, open.rows, open.input, ctx.Temp("hidden.y", open.input.shape));
  if (!part_.last) return Copy(ctx.ops, x, MakeMessage(outputs_, open, "stage.output"));
  std::vector<Tensor> hidden;
  const int64_t modules = step_.head ? 0 : model_.config().mtp().depth();
  for (int64_t k = 0; k <= modules; ++k)
    hidden.push_back(
        ctx.Temp("hidden", {open.batch.sequences * (open.batch.sequence_length - k), model_.config().hidden_size()}));
  model_.ForwardEnd(ctx, weights, open.batch, x, hidden);
  if (step_.head) step_.head(ctx, open.micro_batch, hidden[0]);
}

Phases NetworkStage::Recompute(int micro_batch) { return Timed(step_.ctx.timer, Phase::kForward, RunRecompute(micro_batch)); }

Phases NetworkStage::RunRecompute(int micro_batch) {
  JEVONS_CHECK(step_.recompute, "forward has kept everything of micro-batch %d: there is nothing to recompute", micro_batch);
  Open& open = At(micro_batch);
  LayerContext ctx = Context(open);
  ctx.fp8 = nullptr;  // the first pass has counted what is lost
  const ActionScratch scratch(pool_, ctx);
  co_await ForwardPass(ctx, open, Pass::kSecond);
}

Phases NetworkStage::BackwardInput(int micro_batch) {
  return Timed(step_.ctx.timer, Phase::kBackward, RunBackward(micro_batch, /*fused=*/false));
}

void NetworkStage::BackwardWeight(int micro_batch) {
  Open& open = At(micro_batch);
  const LayerContext ctx = Context(open);
  {
    const PhaseScope phase(ctx.timer, Phase::kWeightGrad);
    open.wgrad.Run(ctx.ops);
  }
  Close(micro_batch);
}

Phases NetworkStage::Backward(int micro_batch) {
  return Timed(step_.ctx.timer, Phase::kBackward, RunBackward(micro_batch, /*fused=*/true));
}

// In one go with the weight gradients, whose operands then need not wait: `backward` of what was kept from `marks` on.
Phases NetworkStage::BackwardThenWeights(const LayerContext& ctx, Open& open, Marks marks, Phases backward) {
  const Arena::Mark stash = open.memory.stash->Save();
  for (bool more = true; more;) {
    more = backward.Next();
    {
      const PhaseScope phase(ctx.timer, Phase::kWeightGrad);
      open.wgrad.Run(ctx.ops);
    }
    if (more) co_await NextPhase();
  }
  open.memory.stash->Release(stash);
  open.memory.until_w->Release(marks.until_w);
  open.memory.until_b->Release(marks.until_b);
}

Phases NetworkStage::BackwardModule(const LayerContext& ctx, Open& open, size_t i) {
  const ModelWeights& weights = *step_.weights;
  const ArenaScope scope(*ctx.ops.scratch);
  const Tensor d_embedded = ctx.Temp("d_embedded", {open.mtp_rows[i].rows(), model_.config().hidden_size()});
  co_await model_.mtp(i).BackwardInput(ctx, weights.mtp[i], open.mtp_rows[i], open.d_hidden[i + 1], open.mtp[i],
                                       step_.scales.balance, d_embedded, open.d_hidden[i]);
  EmbeddingGradient(ctx, d_embedded, open.mtp_ids[i], weights.embedding.grad);
}

Phases NetworkStage::RunBackward(int micro_batch, bool fused) {
  Open& open = At(micro_batch);
  TakeStash(open);
  const ModelWeights& weights = *step_.weights;
  LayerContext ctx = Context(open);
  const ActionScratch scratch(pool_, ctx);
  const auto run = [&](const Marks& marks, Phases backward) {
    return fused ? BackwardThenWeights(ctx, open, marks, std::move(backward)) : std::move(backward);
  };
  const Shape stream = {open.rows.rows(), model_.config().hidden_size()};
  // The gradients of the residual stream: two places are enough, where no weight gradient reads them later.
  const Tensor places[] = {ctx.Temp("d_stream", stream), ctx.Temp("d_stream", stream)};
  size_t next = 0;
  const auto place = [&](int64_t reader) {
    return !fused && reader >= part_.layers.begin && KeepsGradient(ctx, reader) ? ctx.Stash("d_stream", stream)
                                                                                : places[next++ % 2];
  };

  Tensor dy = open.output_gradient;
  if (part_.last) {
    for (size_t i = open.mtp.size(); i-- > 0;) {
      co_await run(open.mtp_marks[i], BackwardModule(ctx, open, i));
      co_await NextPhase();
    }
    dy = place(part_.layers.end - 1);
    NormBackward(ctx, open.d_hidden[0], open.x, weights.final_norm, open.rstd, dy, WriteMode::kOverwrite);
  }
  for (size_t i = open.blocks.size(); i-- > 0;) {
    const bool leaves = i == 0 && !part_.first;
    const auto layer = static_cast<size_t>(part_.layers.begin) + i;
    const Tensor dx =
        leaves ? MakeMessage(input_gradients_, open, "stage.input_gradient") : place(static_cast<int64_t>(layer) - 1);
    co_await run(open.marks[i],
                 model_.block(static_cast<int64_t>(layer))
                     .BackwardInput(ctx, weights.blocks[layer], open.rows, dy, open.blocks[i], step_.scales.balance, dx));
    co_await NextPhase();
    dy = dx;
  }
  if (part_.first) {
    EmbeddingGradient(ctx, dy, open.ids, weights.embedding.grad);
  } else if (open.blocks.empty()) {
    Copy(ctx.ops, dy, MakeMessage(input_gradients_, open, "stage.input_gradient"));
  }
  if (fused)
    Close(micro_batch);
  else
    open.memory.until_b = nullptr;
}

}  // namespace jevons
