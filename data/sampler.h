// The training stream. A sample is seq_len + 1 tokens (inputs and next-token labels; multi-token prediction
// reads the same tokens) and a pure function of (settings, seed, datasets) and its global index: the same for
// every number of ranks, with no end, and readable anywhere without replay.
//
//   StreamConfig config{.datasets = {{"data/train", 1.0}}, .seq_len = 512, .vocab_size = 4096};
//   JEVONS_ASSIGN_OR_RETURN(SampleStream stream, SampleStream::Open(config));
//   JEVONS_RETURN_IF_ERROR(stream.Read(sample, tokens, {}));
#ifndef JEVONS_DATA_SAMPLER_H_
#define JEVONS_DATA_SAMPLER_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "data/mixture.h"
#include "data/packing.h"
#include "data/sampler_state.h"

namespace jevons {

struct DatasetSpec {
  std::string prefix;  // of PREFIX.bin and PREFIX.idx
  double weight = 1;   // share of the samples, in any unit; 0: listed but never drawn
};

// From a sample on, samples of another length, and the datasets in other shares. Each dataset goes on where it stands.
struct LaterSamples {
  int64_t first_sample = 0;
  int64_t seq_len = 0;
  std::vector<double> weights = {};  // [datasets]
};

struct StreamConfig {
  std::vector<DatasetSpec> datasets = {};
  int64_t seq_len = 0;  // input positions of a sample
  uint64_t seed = 0;
  bool document_mask = false;  // whether readers want document starts; the tokens are the same
  double fim_rate = 0;         // share of documents in fill-in-the-middle order; DeepSeek-V3: 0.1
  int32_t fim_begin = 0;       // the special tokens' ids; used, and checked, only where fim_rate > 0
  int32_t fim_hole = 0;
  int32_t fim_end = 0;
  int32_t eos = 0;
  int64_t vocab_size = 0;
  bool shuffle = true;                   // false: documents in the order of the file
  bool shuffle_samples = true;           // false: samples in the order of the documents
  std::vector<LaterSamples> later = {};  // by rising first_sample
};

class SampleStream {
 public:
  // UsageError names every kind of bad setting; IntegrityError a damaged or empty dataset.
  static absl::StatusOr<SampleStream> Open(const StreamConfig& config);

  // Sample `index` (global). tokens: [LengthOf(index) + 1]; document_start: [LengthOf(index)] or empty; for each input
  // position, the position in the sample where its document begins, 0 for one that began before.
  // IntegrityError for a token outside the vocabulary; UsageError for an index that is negative or beyond token 2^61.
  // Sequential reading is fastest. One thread at a time: it moves cached tables.
  absl::Status Read(int64_t index, std::span<int32_t> tokens, std::span<int32_t> document_start);

  // What the LengthOf(index) + 1 tokens of sample `index` are made of. REQUIRES: an index that Read takes.
  std::vector<DocumentPart> PartsOf(int64_t index);

  int64_t LengthOf(int64_t index) const { return PartOf(index).seq_len; }  // input positions of a sample

  // Which dataset sample `index` is from, and which of its own samples it is, counted from the last change; and how many
  // tokens of each dataset the first n samples take.
  Mixture::Place PlaceOf(int64_t index) const { return PartOf(index).mixture.At(index - PartOf(index).first_sample); }
  std::vector<int64_t> TokensPerDataset(int64_t n) const;

  // Why the samples that a batch of `sequences` takes from a dataset all come from one document, and the remedy;
  // empty where none does so by its construction: a batch that does by chance is no reason to warn. Of the samples before any change.
  std::string OneDocumentWarning(int64_t sequences) const;

  // What to put into a checkpoint when samples 0 .. next_sample - 1 have been used, of the part of the stream that the last of
  // them is from; and whether a checkpoint's state belongs to this stream (see CheckSameStream): then it goes on with what the checkpoint's
  // stream has not used, and with nothing else.
  SamplerState StateAt(int64_t next_sample) const;
  absl::Status CheckState(const SamplerState& saved) const;

  const StreamConfig& config() const { return config_; }
  int64_t tokens_per_epoch(int64_t dataset) const { return datasets_[static_cast<size_t>(dataset)].dataset().tokens(); }

 private:
  // Samples of one length and mixture.
  struct Part {
    int64_t first_sample, seq_len;
    Mixture mixture;
    std::vector<Extent> extents;  // [datasets]
  };
  explicit SampleStream(StreamConfig config) : config_(std::move(config)) {}
  absl::Status AddPart(int64_t first_sample, int64_t seq_len, const std::vector<double>& weights);
  const Part& PartOf(int64_t index) const;

  // Where a sample begins in its dataset's stream.
  int64_t PositionOf(const Part& part, const Mixture::Place& place) const;

  StreamConfig config_;
  std::vector<Part> parts_;
  std::vector<PackedDataset> datasets_;
};

}  // namespace jevons

#endif  // JEVONS_DATA_SAMPLER_H_
