#include "data/sampler_state.h"

#include <xxhash.h>

#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/base/check.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

// Little-endian, as the formats of data/index: header, then (fingerprint, weight) per dataset, then, where the stream
// changes, (first token, samples) per dataset, then XXH3-64 of all.
struct Header {
  char magic[8] = {'J', 'V', 'S', 'A', 'M', 'P', 'L', '1'};
  int64_t next_sample;
  uint64_t seed;
  int64_t seq_len;
  int64_t vocab_size;
  double fim_rate;
  FimTokens fim;      // 4 x int32
  uint64_t shuffled;  // kDocuments, kSamples, kExtents: bits
  uint64_t datasets;
};
constexpr uint64_t kDocuments = 1, kSamples = 2, kExtents = 4;
static_assert(sizeof(Header) == 80 && sizeof(SamplerState::Dataset) == 16 && sizeof(Extent) == 16, "the bytes have no padding");
static_assert(sizeof(Header) + SamplerState::kMaxDatasets * (sizeof(SamplerState::Dataset) + sizeof(Extent)) + 8 <=
              SamplerState::kMaxBytes);

uint64_t Hash(absl::string_view bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

absl::Status BadState(const std::string& what) {
  return IntegrityError(absl::StrFormat("sampler state: %s; resume from another checkpoint", what));
}

absl::Status Changed(absl::string_view field, const std::string& saved, const std::string& now) {
  return UsageError(
      absl::StrFormat("data setting %s was %s in the checkpoint and is %s now, which would repeat and "
                      "skip tokens; set it back, or start a new run",
                      field, saved, now));
}

absl::Status CheckSameSettings(const SamplerState& saved, const SamplerState& now) {
  const auto check = [](absl::string_view field, auto was, auto is) {
    return was == is ? absl::OkStatus() : Changed(field, absl::StrCat(was), absl::StrCat(is));
  };
  JEVONS_RETURN_IF_ERROR(check("seed", saved.seed, now.seed));
  JEVONS_RETURN_IF_ERROR(check("sequence_length", saved.seq_len, now.seq_len));
  JEVONS_RETURN_IF_ERROR(check("vocab_size", saved.vocab_size, now.vocab_size));
  JEVONS_RETURN_IF_ERROR(check("shuffle", int{saved.shuffle}, int{now.shuffle}));
  JEVONS_RETURN_IF_ERROR(check("shuffle_samples", int{saved.shuffle_samples}, int{now.shuffle_samples}));
  JEVONS_RETURN_IF_ERROR(check("fim_rate", saved.fim_rate, now.fim_rate));
  JEVONS_RETURN_IF_ERROR(check("fim_begin", saved.fim.begin, now.fim.begin));
  JEVONS_RETURN_IF_ERROR(check("fim_hole", saved.fim.hole, now.fim.hole));
  JEVONS_RETURN_IF_ERROR(check("fim_end", saved.fim.end, now.fim.end));
  JEVONS_RETURN_IF_ERROR(check("eos", saved.fim.eos, now.fim.eos));
  return check("number of datasets", saved.datasets.size(), now.datasets.size());
}

}  // namespace

std::string SamplerState::Serialize() const {
  JEVONS_CHECK(datasets.size() <= kMaxDatasets);
  const Header header{
      .next_sample = next_sample,
      .seed = seed,
      .seq_len = seq_len,
      .vocab_size = vocab_size,
      .fim_rate = fim_rate,
      .fim = fim,
      .shuffled = (shuffle ? kDocuments : 0) | (shuffle_samples ? kSamples : 0) | (extents.empty() ? 0 : kExtents),
      .datasets = datasets.size()};
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof(header));
  bytes.append(reinterpret_cast<const char*>(datasets.data()), datasets.size() * sizeof(Dataset));
  bytes.append(reinterpret_cast<const char*>(extents.data()), extents.size() * sizeof(Extent));
  const uint64_t hash = Hash(bytes);
  bytes.append(reinterpret_cast<const char*>(&hash), sizeof(hash));
  return bytes;
}

absl::StatusOr<SamplerState> SamplerState::Parse(absl::string_view bytes) {
  const Header expected{};
  Header header;
  uint64_t hash;
  if (bytes.size() < sizeof(header) + sizeof(hash) || bytes.size() > kMaxBytes) {
    return BadState(absl::StrFormat("%d bytes, not %d to %d", bytes.size(), sizeof(header) + sizeof(hash), kMaxBytes));
  }
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (std::memcmp(header.magic, expected.magic, sizeof(header.magic)) != 0) return BadState("wrong magic or version");
  const size_t payload = bytes.size() - sizeof(hash);
  std::memcpy(&hash, bytes.data() + payload, sizeof(hash));
  if (hash != Hash(bytes.substr(0, payload))) return BadState("its checksum does not match: damaged");
  if (header.shuffled > (kDocuments | kSamples | kExtents))
    return BadState(absl::StrFormat("its order is %d, which this version does not know", header.shuffled));
  const size_t extents = (header.shuffled & kExtents) != 0 ? header.datasets : 0;
  const size_t dataset_bytes = header.datasets * sizeof(Dataset), extent_bytes = extents * sizeof(Extent);
  if (header.datasets > kMaxDatasets || dataset_bytes + extent_bytes != payload - sizeof(header))
    return BadState(absl::StrFormat("%d datasets do not fit its size", header.datasets));
  if (header.next_sample < 0) return BadState(absl::StrFormat("next_sample is %d", header.next_sample));
  SamplerState state{.next_sample = header.next_sample,
                     .seed = header.seed,
                     .seq_len = header.seq_len,
                     .vocab_size = header.vocab_size,
                     .shuffle = (header.shuffled & kDocuments) != 0,
                     .shuffle_samples = (header.shuffled & kSamples) != 0,
                     .fim_rate = header.fim_rate,
                     .fim = header.fim,
                     .datasets = std::vector<Dataset>(header.datasets),
                     .extents = std::vector<Extent>(extents)};
  if (dataset_bytes > 0) std::memcpy(state.datasets.data(), bytes.data() + sizeof(header), dataset_bytes);
  if (extent_bytes > 0) std::memcpy(state.extents.data(), bytes.data() + sizeof(header) + dataset_bytes, extent_bytes);
  return state;
}

absl::Status CheckSameStream(const SamplerState& saved, const SamplerState& now, const std::vector<std::string>& prefixes) {
  JEVONS_RETURN_IF_ERROR(CheckSameSettings(saved, now));
  for (size_t i = 0; i < now.datasets.size(); ++i) {
    if (saved.datasets[i].fingerprint != now.datasets[i].fingerprint) {
      return IntegrityError(
          absl::StrFormat("datasets[%d] (%s) is not the data that the checkpoint was trained on "
                          "(fingerprint %016x, was %016x); put the old files back, in the old order, "
                          "or start a new run",
                          i, prefixes[i], now.datasets[i].fingerprint, saved.datasets[i].fingerprint));
    }
    if (saved.datasets[i].weight != now.datasets[i].weight) {
      return Changed(absl::StrFormat("datasets[%d].weight (%s)", i, prefixes[i]),
                     absl::StrFormat("%.17g", saved.datasets[i].weight), absl::StrFormat("%.17g", now.datasets[i].weight));
    }
    const int64_t was = saved.extents.empty() ? 0 : saved.extents[i].begin, is = now.extents.empty() ? 0 : now.extents[i].begin;
    if (was != is)
      return UsageError(absl::StrFormat(
          "train.stage: the samples of this length begin at token %d of %s in the checkpoint and at token %d now, which would "
          "repeat or skip tokens; declare the stages that are begun as they were",
          was, prefixes[i], is));
  }
  return absl::OkStatus();
}

}  // namespace jevons
