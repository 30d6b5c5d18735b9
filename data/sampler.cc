#include "data/sampler.h"

#include <array>
#include <cmath>
#include <memory>
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
  std::vector<double> weights;
  for (const DatasetSpec& spec : config.datasets) weights.push_back(spec.weight);
  JEVONS_ASSIGN_OR_RETURN(Mixture mixture, Mixture::Create(weights, config.seed));
  SampleStream stream(config, std::move(mixture));
  for (size_t i = 0; i < config.datasets.size(); ++i) {
    JEVONS_ASSIGN_OR_RETURN(PackedDataset dataset, OpenDataset(config, i));
    stream.datasets_.push_back(std::move(dataset));
  }
  return stream;
}

absl::Status SampleStream::Read(int64_t index, std::span<int32_t> tokens, std::span<int32_t> document_start) {
  if (index < 0 || index > kMaxPosition / config_.seq_len) {
    return UsageError(absl::StrFormat("sample %d: the stream holds samples 0..%d", index, kMaxPosition / config_.seq_len));
  }
  const Mixture::Place place = mixture_.At(index);
  return datasets_[static_cast<size_t>(place.dataset)].Read(PositionOf(place), tokens, document_start);
}

int64_t SampleStream::PositionOf(const Mixture::Place& place) const {
  const PackedDataset& dataset = datasets_[static_cast<size_t>(place.dataset)];
  return (config_.shuffle_samples ? dataset.ShuffledSample(place.local, config_.seq_len) : place.local) * config_.seq_len;
}

std::vector<DocumentPart> SampleStream::PartsOf(int64_t index) {
  const Mixture::Place place = mixture_.At(index);
  return datasets_[static_cast<size_t>(place.dataset)].Parts(PositionOf(place), config_.seq_len + 1);
}

std::string SampleStream::OneDocumentWarning(int64_t sequences) const {
  const std::vector<int64_t> samples = mixture_.Counts(sequences);
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
  SamplerState state{.next_sample = next_sample,
                     .seed = config_.seed,
                     .seq_len = config_.seq_len,
                     .vocab_size = config_.vocab_size,
                     .shuffle = config_.shuffle,
                     .shuffle_samples = config_.shuffle_samples,
                     .fim_rate = config_.fim_rate,
                     .fim = {},
                     .datasets = {}};
  if (config_.fim_rate > 0) state.fim = {config_.fim_begin, config_.fim_hole, config_.fim_end, config_.eos};
  for (size_t i = 0; i < datasets_.size(); ++i) {
    state.datasets.push_back({datasets_[i].dataset().fingerprint(), config_.datasets[i].weight});
  }
  return state;
}

absl::Status SampleStream::CheckState(const SamplerState& saved) const {
  std::vector<std::string> prefixes;
  for (const DatasetSpec& spec : config_.datasets) prefixes.push_back(spec.prefix);
  return CheckSameStream(saved, StateAt(0), prefixes);
}

}  // namespace jevons
