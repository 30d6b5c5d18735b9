// What a model makes of given tokens, file against file: evaluation harnesses and comparisons with other implementations need
// nothing else. Both files are safetensors.
//
//   in    input_ids      I64 [B,S]      other tensors are ignored
//   out   logprobs       F32 [B,S-1]    log p(t_{i+1} | t_0 ... t_i)
//         loss           F32 [1]        mean next-token cross-entropy over B * (S-1); no balance or MTP terms
//         logits         F32 [B,S,V]    on request
//         grad.NAME      F32            on request: d loss / d NAME, for every parameter under its published name
//         mtp_logits.K   F32 [B,S-K,V]  on request: of MTP module K, from 1; position i has h_i and t_{i+K}
//
// logprobs and loss alone come from TrainStep::Score, on any layout; what looks into the model, which a Scorer does, on one rank and its
// CPU.
//
// There sequences pass one at a time, each a document of its own, and logits go to the file in chunks. Memory: the weights, one
// sequence's activations of one block, 8 bytes per token of the input; with gradients, one sequence's activations of all
// blocks and the parameters once more in FP32. Each mtp_logits.K is a pass of its own, for a file is written front to back.
// Sums run over the sequences in order: the same bits on any number of threads.
#ifndef JEVONS_TRAINER_RUN_SCORE_H_
#define JEVONS_TRAINER_RUN_SCORE_H_

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "trainer/files/safetensors.h"
#include "trainer/model/model.h"
#include "trainer/step/train_step.h"

namespace jevons {

struct ScoreOptions {
  bool logits = false;
  bool gradients = false;
  bool mtp = false;
  bool any() const { return logits || gradients || mtp; }
};

struct TokenTable {
  int64_t sequences = 0, length = 0;  // B, S
  std::vector<int32_t> ids;           // [B,S]
};

// IntegrityError naming file, tensor, place and value unless there is an input_ids as above, B >= 1, S >= 2, all ids within
// [0, vocab).
absl::StatusOr<TokenTable> ReadTokens(FileSystem& files, const std::string& path, int64_t vocab);

// Each sequence, from its second token on.
std::vector<TrainStep::ScoredSequence> SequencesOf(const TokenTable& tokens);
// The config of a step that scores: the weights themselves, without FP8, and of the main model; sequences of up to `length` tokens, if those
// of training are shorter. IntegrityError where they are too long for any memory.
absl::StatusOr<RunConfig> ConfigForScores(RunConfig config, int64_t length);
// logprobs and loss. Returns the loss. As after every error of a Scorer, nothing is left at `path` after one.
absl::StatusOr<double> WriteLogprobs(FileSystem& files, const std::string& path, const TokenTable& tokens,
                                     std::span<const std::vector<TokenScore>> scores);

class Scorer {
 public:
  // config: valid, model.vocab_size known. tokens outlive the scorer; world: one rank. UsageError for MTP logits of a model
  // without modules; IntegrityError for sequences that are too short for them or too long for any memory.
  static absl::StatusOr<std::unique_ptr<Scorer>> Create(const RunConfig& config, const TokenTable& tokens,
                                                        const ScoreOptions& options, Communicator& world);

  const WeightStore& weights() const { return weights_; }  // to be filled before Write

  // Returns the loss. NumericalError naming sequence, layer and tensor where NaN or Inf comes up: then nothing is left
  // at `path`, as after every error.
  absl::StatusOr<double> Write(FileSystem& files, const std::string& path);

 private:
  struct Output {
    SafetensorsSpec spec;
    std::function<absl::Status(SafetensorsWriter&)> write;
  };
  using LogitVisit = std::function<absl::Status(int64_t sequence, int64_t begin, const Tensor& logits)>;

  Scorer(const RunConfig& config, int64_t arena_bytes, const TokenTable& tokens, const ScoreOptions& options,
         Communicator& world);
  LayerContext Context();
  std::vector<Output> Outputs();
  void AddGradientOutputs(std::vector<Output>& outputs);
  // row: space for S+1 tokens; the last has no label.
  MicroBatch Batch(int64_t sequence, std::vector<int32_t>& row) const;
  // Visits the logits of module k (0: of the main model), all sequences in order, in chunks of rows from `begin` on.
  absl::Status ForLogits(int64_t k, const LogitVisit& visit);
  absl::Status FillLogprobs(SafetensorsWriter* logits);
  absl::Status SumGradients();
  absl::Status CheckFinite(int64_t sequence, bool finite) const;

  ModelConfig full_;          // with all MTP modules
  ModelConfig model_config_;  // with none, unless their logits are wanted
  const TokenTable& tokens_;
  ScoreOptions options_;
  DType compute_;
  int64_t arena_bytes_;
  MicroMemory memory_;
  Arena scratch_;
  PhaseTimer timer_;
  NonFinite non_finite_;
  Dispatcher dispatcher_;
  WeightStore weights_;
  WeightBinding binding_;
  Model model_;
  std::vector<float> logprobs_;  // [B,S-1]
  std::unique_ptr<GradientStore> gradients_;
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_RUN_SCORE_H_
