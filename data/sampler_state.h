// Where a run stands in its data: all that a checkpoint keeps of the pipeline. The stream is a pure function
// of (settings, seed, datasets) and the sample index, so one number is the position; the rest says which
// stream, as it is at that position.
#ifndef JEVONS_DATA_SAMPLER_STATE_H_
#define JEVONS_DATA_SAMPLER_STATE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "data/fim.h"
#include "data/packing.h"

namespace jevons {

struct SamplerState {
  struct Dataset {
    uint64_t fingerprint = 0;  // IndexedDataset::fingerprint
    double weight = 0;
  };

  int64_t next_sample = 0;  // the global index of the first sample not yet used
  uint64_t seed = 0;
  int64_t seq_len = 0;
  int64_t vocab_size = 0;
  bool shuffle = true;
  bool shuffle_samples = false;  // as in every state from before there was a choice
  double fim_rate = 0;
  FimTokens fim;  // all 0 where fim_rate is
  std::vector<Dataset> datasets;
  std::vector<Extent> extents = {};  // [datasets], of the samples of this length and mixture; empty where these never change

  static constexpr size_t kMaxBytes = 8192;
  static constexpr size_t kMaxDatasets = 240;

  // At most kMaxBytes. REQUIRES: at most kMaxDatasets datasets.
  std::string Serialize() const;

  // IntegrityError unless `bytes` came from Serialize, to the bit.
  static absl::StatusOr<SamplerState> Parse(absl::string_view bytes);
};

// OK if both are states of one stream, whatever their next_sample. Else UsageError for a changed setting and
// IntegrityError for changed data, naming what differs. `prefixes` name the datasets of `now`.
absl::Status CheckSameStream(const SamplerState& saved, const SamplerState& now, const std::vector<std::string>& prefixes);

}  // namespace jevons

#endif  // JEVONS_DATA_SAMPLER_STATE_H_
