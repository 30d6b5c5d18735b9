#include "data/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <memory>
#include <numeric>
#include <utility>

#include "absl/strings/str_format.h"
#include "data/keys.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

constexpr int64_t kMaxPosition = int64_t{1} << 61;  // tokens; what DocumentOrder and Mixture compute exactly
// Shuffled samples come from anywhere, each from another bucket, whose table is made anew: small ones are made
// quickly, and documents need not be far from home when their samples are.
constexpr int64_t kShuffledBucketDocuments = 512;

absl::Status CheckFim(const StreamConfig& config) {
  if (!(config.fim_rate >= 0 && config.fim_rate <= 1)) {
    return UsageError(absl::StrFormat("fim_rate is %g; it must lie in 0..1", config.fim_rate));
  }
  if (config.fim_rate == 0) return absl::OkStatus();
  constexpr std::array<const char*, 4> kNames = {"fim_begin", "fim_hole", "fim_end", "eos"};
  const std::array<int32_t, 4> ids = {config.fim_begin, config.fim_hole, config.fim_end, config.eos};
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= config.vocab_size) {
      return UsageError(
          absl::StrFormat("%s is token %d, outside the vocabulary of %d; give the tokenizer's id, or set "
                          "fim_rate to 0",
                          kNames[i], ids[i], config.vocab_size));
    }
    for (size_t j = 0; j < i; ++j) {
      if (ids[i] != ids[j]) continue;
      return UsageError(
          absl::StrFormat("%s and %s are both token %d; with fim_rate > 0 they must differ", kNames[j], kNames[i], ids[i]));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckConfig(const StreamConfig& config) {
  if (config.datasets.empty()) return UsageError("no datasets; name at least one, made with `jevons prepare`");
  if (config.datasets.size() > SamplerState::kMaxDatasets) {
    return UsageError(absl::StrFormat("%d datasets; at most %d fit into a checkpoint: join some of them", config.datasets.size(),
                                      SamplerState::kMaxDatasets));
  }
  if (config.seq_len < 1 || config.seq_len > (int64_t{1} << 30)) {
    return UsageError(absl::StrFormat("sequence_length is %d; it must lie in 1..2^30", config.seq_len));
  }
  return CheckFim(config);
}

absl::StatusOr<PackedDataset> OpenDataset(const StreamConfig& config, size_t i) {
  const std::string& prefix = config.datasets[i].prefix;
  JEVONS_ASSIGN_OR_RETURN(IndexedDataset dataset, IndexedDataset::Open(prefix, config.vocab_size));
  if (dataset.tokens() == 0) {
    return IntegrityError(
        absl::StrFormat("%s.bin: 0 tokens; prepare it again from a text that is not empty, or remove "
                        "datasets[%d]",
                        prefix, i));
  }
  DocumentOrder::Config order{
      .key = DeriveKey(config.seed, KeyPurpose::kDataset, i), .shuffle = config.shuffle, .fim_rate = config.fim_rate};
  if (config.shuffle_samples) order.bucket_documents = kShuffledBucketDocuments;
  return PackedDataset(std::make_unique<const IndexedDataset>(std::move(dataset)), order,
                       {config.fim_begin, config.fim_hole, config.fim_end, config.eos});
}

}  // namespace

absl::StatusOr<SampleStream> SampleStream::Open(const StreamConfig& config) {
  JEVONS_RETURN_IF_ERROR(CheckConfig(config));
  SampleStream stream(config);
  std::vector<double> weights;
  for (const DatasetSpec& spec : config.datasets) weights.push_back(spec.weight);
  JEVONS_RETURN_IF_ERROR(stream.AddPart(0, config.seq_len, weights));
  for (const LaterSamples& later : config.later)
    JEVONS_RETURN_IF_ERROR(stream.AddPart(later.first_sample, later.seq_len, later.weights));
  for (size_t i = 0; i < config.datasets.size(); ++i) {
    JEVONS_ASSIGN_OR_RETURN(PackedDataset dataset, OpenDataset(config, i));
    stream.datasets_.push_back(std::move(dataset));
  }
  return stream;
}

// Ends the part before it: its extents get their lengths, and the new ones begin there.
absl::Status SampleStream::AddPart(int64_t first_sample, int64_t seq_len, const std::vector<double>& weights) {
  JEVONS_ASSIGN_OR_RETURN(Mixture mixture, Mixture::Create(weights, config_.seed));
  std::vector<Extent> extents(config_.datasets.size());
  if (!parts_.empty()) {
    Part& last = parts_.back();
    const std::vector<int64_t> samples = last.mixture.Counts(first_sample - last.first_sample);
    for (size_t i = 0; i < extents.size(); ++i) {
      last.extents[i].samples = samples[i];
      extents[i].begin = last.extents[i].begin + samples[i] * last.seq_len;
    }
  }
  parts_.push_back({first_sample, seq_len, std::move(mixture), std::move(extents)});
  return absl::OkStatus();
}

const SampleStream::Part& SampleStream::PartOf(int64_t index) const {
  const auto after = std::upper_bound(parts_.begin() + 1, parts_.end(), index,
                                      [](int64_t i, const Part& part) { return i < part.first_sample; });
  return *std::prev(after);
}

std::vector<int64_t> SampleStream::TokensPerDataset(int64_t n) const {
  const Part& part = PartOf(n);
  std::vector<int64_t> tokens = part.mixture.Counts(n - part.first_sample);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = part.extents[i].begin + tokens[i] * part.seq_len;
  return tokens;
}

absl::Status SampleStream::Read(int64_t index, std::span<int32_t> tokens, std::span<int32_t> document_start) {
  const Part& part = PartOf(index);
  const auto consumed = [](int64_t sum, const Extent& extent) { return sum + extent.begin; };
  const int64_t before = std::accumulate(part.extents.begin(), part.extents.end(), int64_t{0}, consumed);
  const int64_t last = part.first_sample + (kMaxPosition - before) / part.seq_len;
  if (index < 0 || index > last) return UsageError(absl::StrFormat("sample %d: the stream holds samples 0..%d", index, last));
  const Mixture::Place place = part.mixture.At(index - part.first_sample);
  return datasets_[static_cast<size_t>(place.dataset)].Read(PositionOf(part, place), tokens, document_start);
}

int64_t SampleStream::PositionOf(const Part& part, const Mixture::Place& place) const {
  const auto d = static_cast<size_t>(place.dataset);
  const Extent& extent = part.extents[d];
  const int64_t sample = config_.shuffle_samples ? datasets_[d].ShuffledSample(place.local, part.seq_len, extent) : place.local;
  return extent.begin + sample * part.seq_len;
}

std::vector<DocumentPart> SampleStream::PartsOf(int64_t index) {
  const Part& part = PartOf(index);
  const Mixture::Place place = PlaceOf(index);
  return datasets_[static_cast<size_t>(place.dataset)].Parts(PositionOf(part, place), part.seq_len + 1);
}

std::string SampleStream::OneDocumentWarning(int64_t sequences) const {
  const std::vector<int64_t> samples = parts_.front().mixture.Counts(sequences);
  for (size_t i = 0; i < datasets_.size(); ++i) {
    if (samples[i] < 2) continue;  // one sample has no others to be mixed with
    const int64_t batch = samples[i] * config_.seq_len;
    const int64_t tokens = datasets_[i].dataset().tokens(), longest = datasets_[i].order().longest();
    if (longest == tokens && tokens <= batch)
      return absl::StrFormat(
          "%s.bin holds one document of %d tokens, and a batch takes %d samples of %d tokens from "
          "it: every batch is that document; prepare more text",
          config_.datasets[i].prefix, tokens, samples[i], config_.seq_len);
    // A document of two batches' length holds a whole one, wherever it begins.
    if (!config_.shuffle_samples && (longest == tokens || longest >= 2 * batch))
      return absl::StrFormat(
          "data.shuffle_samples = false: a batch takes %d samples of %d tokens from %s.bin one after "
          "another, and its longest document has %d tokens: whole batches come from one "
          "document; a new run with data.shuffle_samples=true mixes them",
          samples[i], config_.seq_len, config_.datasets[i].prefix, longest);
  }
  return "";
}

SamplerState SampleStream::StateAt(int64_t next_sample) const {
  const Part& part = PartOf(std::max<int64_t>(0, next_sample - 1));
  SamplerState state{.next_sample = next_sample,
                     .seed = config_.seed,
                     .seq_len = part.seq_len,
                     .vocab_size = config_.vocab_size,
                     .shuffle = config_.shuffle,
                     .shuffle_samples = config_.shuffle_samples,
                     .fim_rate = config_.fim_rate,
                     .fim = {},
                     .datasets = {}};
  if (config_.fim_rate > 0) state.fim = {config_.fim_begin, config_.fim_hole, config_.fim_end, config_.eos};
  const size_t index = static_cast<size_t>(&part - parts_.data());
  for (size_t i = 0; i < datasets_.size(); ++i) {
    const double weight = index == 0 ? config_.datasets[i].weight : config_.later[index - 1].weights[i];
    state.datasets.push_back({datasets_[i].dataset().fingerprint(), weight});
  }
  if (parts_.size() > 1) state.extents = part.extents;
  return state;
}

absl::Status SampleStream::CheckState(const SamplerState& saved) const {
  std::vector<std::string> prefixes;
  for (const DatasetSpec& spec : config_.datasets) prefixes.push_back(spec.prefix);
  JEVONS_RETURN_IF_ERROR(CheckSameStream(saved, StateAt(saved.next_sample), prefixes));
  if (!config_.shuffle_samples || saved.next_sample == 0) return absl::OkStatus();
  // Of the epoch under way the samples that are left must be those that the checkpoint's order has left.
  const Part& part = PartOf(saved.next_sample - 1);
  const std::vector<int64_t> used = part.mixture.Counts(saved.next_sample - part.first_sample);
  for (size_t i = 0; i < datasets_.size(); ++i) {
    if (used[i] == 0) continue;
    const Extent &now = part.extents[i], before = saved.extents.empty() ? Extent() : saved.extents[i];
    const Range among = datasets_[i].ShuffledAmong(used[i] - 1, part.seq_len, now),
                was = datasets_[i].ShuffledAmong(used[i] - 1, part.seq_len, before);
    if (among == was) continue;
    return UsageError(
        absl::StrFormat("train.stage: the samples of %s.bin are shuffled, %d that follow each other in its text among "
                        "themselves, and %d of these are used; a stage that "
                        "changes data.sequence_length or the mixture would make them %d, and samples would be repeated and "
                        "skipped. Such a stage is declared before the "
                        "epoch begins in which it does, at best from the start; or in a run with data.shuffle_samples = false",
                        prefixes[i], was.size(), used[i] - was.begin, among.size()));
  }
  return absl::OkStatus();
}

}  // namespace jevons
