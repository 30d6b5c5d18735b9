// What the model makes of given tokens, one by one: the passes of an evaluation over sequences of any lengths.
#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <span>

#include "absl/strings/str_format.h"
#include "trainer/step/train_step.h"

namespace jevons {
namespace {

// A score as an integer, so that ranks that have another's may add the 0 that they hold in its place.
int64_t WordOf(const TokenScore& score) {
  return int64_t{std::bit_cast<uint32_t>(score.logprob)} | int64_t{score.likeliest} << 32;
}
TokenScore ScoreOf(int64_t word) {
  return {.logprob = std::bit_cast<float>(static_cast<uint32_t>(word)), .likeliest = (word >> 32) != 0};
}

}  // namespace

// Sequences of one length each, so that nothing is padded and each begins at position 0; together no more tokens than a training step's
// micro-batch. Longest first: those that ranks have at one time are of like size.
std::vector<std::vector<size_t>> TrainStep::ScoredBatches(std::span<const ScoredSequence> sequences) const {
  const int64_t most = config_.train().micro_batch_sequences() * config_.data().sequence_length();
  std::vector<size_t> order(sequences.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto inputs = [&](size_t s) { return static_cast<int64_t>(sequences[s].tokens.size()) - 1; };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return inputs(a) > inputs(b); });
  std::vector<std::vector<size_t>> batches;
  for (const size_t s : order) {
    if (batches.empty() || inputs(batches.back().front()) != inputs(s) ||
        static_cast<int64_t>(batches.back().size() + 1) * inputs(s) > most)
      batches.emplace_back();
    batches.back().push_back(s);
  }
  return batches;
}

std::vector<std::vector<TokenScore>> TrainStep::ScoreLooking(std::span<const ScoredSequence> sequences,
                                                             const std::function<void(int64_t, int64_t)>& progress,
                                                             NonFinite* found) {
  LayerContext ctx = Context();
  ctx.timer = nullptr;
  ctx.fp8 = nullptr;  // steps alone are counted
  ctx.non_finite = found;
  std::vector<size_t> begin = {0};  // of each sequence's scores among all
  for (const ScoredSequence& sequence : sequences)
    begin.push_back(begin.back() + sequence.tokens.size() - static_cast<size_t>(sequence.scored));
  std::vector<int64_t> words(begin.back(), 0);

  const std::vector<std::vector<size_t>> batches = ScoredBatches(sequences);
  const int64_t pipelines = mesh_.shape().dp(), count = static_cast<int64_t>(batches.size());
  const int64_t rounds = Rounds(mesh_.shape(), count), at_once = EvaluatedAtOnce();
  std::vector<BatchBuffer> buffers;
  for (int64_t i = 0; i < LegalMicroBatches(at_once); ++i) buffers.emplace_back(stream_.get());
  int64_t done = 0;
  for (int64_t round = 0; round < rounds; round += at_once) {
    const int64_t micro_batches = LegalMicroBatches(std::min(at_once, rounds - round));
    const auto batch = [&](int64_t i) -> std::span<const size_t> {
      const int64_t index = (round + i) * pipelines + mesh_.rank().dp;
      return i < at_once && index < count ? std::span<const size_t>(batches[static_cast<size_t>(index)])
                                          : std::span<const size_t>();
    };
    for (int64_t i = 0; i < micro_batches; ++i) {
      std::vector<int32_t> tokens;
      for (const size_t s : batch(i)) tokens.insert(tokens.end(), sequences[s].tokens.begin(), sequences[s].tokens.end());
      const int64_t length = batch(i).empty() ? 1 : static_cast<int64_t>(tokens.size() / batch(i).size()) - 1;
      buffers[static_cast<size_t>(i)].Upload(tokens, {}, length);
    }
    RunStages({.ctx = ctx,
               .weights = &binding_->weights(),
               .batch = [&](int i) { return buffers[static_cast<size_t>(i)].At(0, static_cast<int64_t>(batch(i).size())); },
               .forward_only = true,
               .head =
                   [&](const LayerContext& last, int i, const Tensor& hidden) {
                     std::vector<int32_t> labels;
                     for (const size_t s : batch(i))
                       for (size_t t = 1; t < sequences[s].tokens.size(); ++t)
                         labels.push_back(static_cast<int64_t>(t) < sequences[s].scored ? -1 : sequences[s].tokens[t]);
                     const std::vector<TokenScore> scores = HeadScores(last, binding_->weights().head.value, hidden, labels);
                     auto next = scores.begin();
                     for (const size_t s : batch(i))
                       for (size_t word = begin[s]; word < begin[s + 1]; ++word) words[word] = WordOf(*next++);
                   }},
              micro_batches);
    for (int64_t index = round * pipelines; index < std::min((round + at_once) * pipelines, count); ++index)
      done += static_cast<int64_t>(batches[static_cast<size_t>(index)].size());
    if (progress) progress(done, static_cast<int64_t>(sequences.size()));
  }
  mesh_.world().AllReduceSum(words);

  std::vector<std::vector<TokenScore>> scores(sequences.size());
  for (size_t s = 0; s < sequences.size(); ++s)
    std::transform(words.begin() + static_cast<std::ptrdiff_t>(begin[s]),
                   words.begin() + static_cast<std::ptrdiff_t>(begin[s + 1]), std::back_inserter(scores[s]), ScoreOf);
  return scores;
}

absl::StatusOr<std::vector<std::vector<TokenScore>>> TrainStep::Score(std::span<const ScoredSequence> sequences,
                                                                      const std::function<void(int64_t, int64_t)>& progress) {
  for (const ScoredSequence& sequence : sequences) {
    const auto tokens = static_cast<int64_t>(sequence.tokens.size());
    JEVONS_CHECK(sequence.scored >= 1 && sequence.scored < tokens && tokens <= config_.data().sequence_length() + 1,
                 "%lld tokens, scored from %lld on, of sequences of %lld", static_cast<long long>(tokens),
                 static_cast<long long>(sequence.scored), static_cast<long long>(config_.data().sequence_length()));
  }
  std::vector<std::vector<TokenScore>> scores = ScoreLooking(sequences, progress, nullptr);
  const auto bad = std::find_if(scores.begin(), scores.end(), [](const std::vector<TokenScore>& of_one) {
    return std::any_of(of_one.begin(), of_one.end(), [](const TokenScore& score) { return !std::isfinite(score.logprob); });
  });
  if (bad == scores.end()) return scores;
  const auto s = static_cast<size_t>(bad - scores.begin());
  NonFinite found;  // that one again, this time looking at every norm
  ScoreLooking(sequences.subspan(s, 1), {}, &found);
  int64_t layer = kNowhere;
  std::string place;
  for (const auto& stage : stages_) {
    if (stage == nullptr || stage->non_finite().tensor == nullptr || stage->non_finite().layer >= layer) continue;
    layer = stage->non_finite().layer;
    place = absl::StrFormat("layer %d: %s", layer, stage->non_finite().tensor);
  }
  const std::string told = WordsOfLowest(layer, place);
  return NumericalError(absl::StrFormat("sequence %d: NaN or Inf, first seen in %s", s, told.empty() ? "the output head" : told));
}

}  // namespace jevons
