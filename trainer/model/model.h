// The whole network on one rank: embedding, blocks, final norm, head, MTP modules (DeepSeek-V3 report, section 2).
//
// A model knows shapes only. Weights come in as views, micro-batches as tokens; nothing of a micro-batch stays behind.
#ifndef JEVONS_TRAINER_MODEL_MODEL_H_
#define JEVONS_TRAINER_MODEL_MODEL_H_

#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "trainer/model/gradients.h"
#include "trainer/model/mtp.h"
#include "trainer/spec/params.h"

namespace jevons {

struct ModelWeights {
  Weight embedding, final_norm, head;  // [V,H], [H], [V,H]
  std::vector<BlockWeights> blocks;
  std::vector<MtpWeights> mtp;
};

// Binds the views of a ModelWeights to the stores, by name, once; what the rank does not hold stays empty.
class WeightBinding {
 public:
  // precision: which products run in FP8. Without it none do: scores and texts are those of the weights themselves.
  // The codes lie where the store does.
  WeightBinding(const ModelConfig& model, const WeightStore& store, const PrecisionConfig& precision = {});
  // The codes of the weights that FP8 products read, turned too where these take them so, to be made again whenever the values have changed: of
  // those that the store keeps, and of others as they pass. lost: where the stream works, or null.
  void Quantize(const OpContext& ops, QuantStats* lost);
  void Quantize(const OpContext& ops, std::span<const PassingWeight> weights, QuantStats* lost);
  int64_t bytes() const { return codes_.used_bytes(); }
  // The codes of a parameter, of a stack those of one expert here, and their scales; none where there are none.
  std::vector<Tensor> CodesOf(size_t param, int64_t local_expert) const;
  // Where backward passes contribute from here on; nowhere before.
  void BindGradients(const GradientStore& gradients);
  const ModelWeights& weights() const { return weights_; }

 private:
  static int64_t BytesOf(const ModelConfig& model, int64_t local_experts, const PrecisionConfig& precision, Device backend,
                         const HeldLayers& held);
  void BindBlock(const ModelConfig& model, const WeightStore& store, const std::string& prefix, bool dense, BlockWeights& block);
  void Bind(const WeightStore& store, const std::string& name, Weight& weight);
  void Bind(const WeightStore& store, const std::string& name, ExpertWeight& weight);
  Fp8Weight Codes(const Tensor& value);
  PrecisionConfig precision_;
  Device backend_;
  Arena codes_;
  ModelWeights weights_;
  std::vector<std::pair<size_t, Weight*>> dense_;
  std::vector<std::pair<size_t, ExpertWeight*>> experts_;
  size_t next_bias_ = 0, bound_ = 0;
};

struct MicroBatch {
  int64_t sequences = 0;
  int64_t sequence_length = 0;  // S
  // Where the stream works.
  Tensor tokens;                                // [sequences, S+1] I32
  Tensor document_start;                        // [sequences, S] I32, or empty: no document mask
  int64_t documents = 0, longest_document = 0;  // what the host knows of them (kernels/ops/attention.h)
};

// d(total loss) / d(what is summed): the batch's constants, the same for each of its micro-batches.
struct LossScales {
  float main = 0;     // 1 / tokens of the batch
  float mtp = 0;      // lambda / depth / tokens of the batch
  float balance = 0;  // alpha / sequences of the batch
};

// What a micro-batch leaves where the stream works, for the host to read when it next waits.
struct MicroBatchTotals {
  double* losses = nullptr;  // [Model::loss_terms()]: LossSums::Of says which
  Tensor counts;             // [moe_layers, E] I64: rows routed to each expert
};

// Sums over the micro-batch; to be divided by the batch's numbers.
struct LossSums {
  double main = 0;     // cross-entropy over tokens
  double mtp = 0;      // over tokens and modules
  double balance = 0;  // over sequences and layers

  // terms: the main model's, each of `depth` modules', each MoE layer's.
  static LossSums Of(std::span<const double> terms, int64_t depth);
};

class Model {
 public:
  // sequence_length: of the longest micro-batch that will come. The stream: of all micro-batches.
  Model(const ModelConfig& model, int64_t sequence_length, Dispatcher& dispatcher, const Stream& stream = {});

  const ModelConfig& config() const { return config_; }
  int64_t moe_layers() const { return moe_layers_; }  // MTP modules included
  int64_t loss_terms() const { return 1 + static_cast<int64_t>(mtp_.size()) + moe_layers_; }
  const Block& block(int64_t layer) const { return blocks_[static_cast<size_t>(layer)]; }
  const MtpModule& mtp(size_t module) const { return mtp_[module]; }  // from 0
  // The index of a layer, or of MTP module layer - layers, among those with experts; -1: it has none.
  int64_t moe_layer(int64_t layer) const { return layer < config_.dense_layers() ? -1 : layer - config_.dense_layers(); }
  // The rows of one sequence that a rank's experts get in these layers, and in the MTP modules, when loads are even.
  int64_t EvenRows(Range layers, bool modules, int64_t sequence_length) const;

  // The positions of module k (0: of the main model); their documents are those of the main model's hidden states. Kept until B.
  RowLayout RowsOf(const LayerContext& ctx, const MicroBatch& batch, int64_t k) const;
  // [rows] I32: the tokens whose embeddings module k reads (0: the main model). Kept until B.
  Tensor Ids(const LayerContext& ctx, const MicroBatch& batch, int64_t k) const;
  void FinalNorm(const LayerContext& ctx, const ModelWeights& weights, const Tensor& x, const Tensor& y,
                 const Tensor& rstd) const;

  // The forward pass alone, which keeps one block's activations at a time. Collective over ep.
  // These layers, from x to the place that is returned: x or y, both [T,H] and overwritten.
  Tensor ForwardBlocks(const LayerContext& ctx, const ModelWeights& weights, Range layers, const RowLayout& rows, const Tensor& x,
                       const Tensor& y) const;
  // What follows the last layer's output x. hidden[0] [T,H] is what the head reads, hidden[k] [sequences * (S-k), H] what it reads
  // of MTP module k; as many modules run as there are places.
  void ForwardEnd(const LayerContext& ctx, const ModelWeights& weights, const MicroBatch& batch, const Tensor& x,
                  std::span<const Tensor> hidden) const;
  // All of it, from the tokens.
  void Hidden(const LayerContext& ctx, const ModelWeights& weights, const MicroBatch& batch,
              std::span<const Tensor> hidden) const;

 private:
  Block MakeBlock(int layer, bool dense) const;
  Tensor Embedded(const LayerContext& ctx, const ModelWeights& weights, const MicroBatch& batch, int64_t k) const;

  ModelConfig config_;
  MlaDims mla_;
  float attention_scale_ = 0;
  Arena constants_;
  Tensor rope_cos_, rope_sin_;
  std::unique_ptr<Moe> moe_;
  std::vector<Block> blocks_;
  std::vector<MtpModule> mtp_;
  int64_t moe_layers_ = 0;
};

// to[s, i] = from[s, i + shift] for i < positions; from: [B, S or more] I32, to: [B * positions].
void CopyPositions(const OpContext& ops, const Tensor& from, int64_t shift, int64_t positions, const Tensor& to);

// Contributes dy [T,H], of the rows of ids [T], to the gradient of the embedding.
void EmbeddingGradient(const LayerContext& ctx, const Tensor& dy, const Tensor& ids, const GradientSum& gradient);

// Whether the products of this part of the model run in FP8.
bool InFp8(ModelPart part, const PrecisionConfig& precision);
// What the report computes in FP8, and with which scales (3.3.1, 3.3.2, 3.5.2): powers of two for the input of o_proj, for what
// is dispatched to the experts, and for the gradients that come back to them.
ProductPlan PlanOf(const ParamSpec& spec, const PrecisionConfig& precision);

// The scale on attention scores: (nope + rope)^-1/2, times YaRN's mscale squared (report 4.3).
float AttentionScale(const AttentionConfig& attention);
RopeScaling RopeScalingOf(const YarnConfig& yarn);

}  // namespace jevons

#endif  // JEVONS_TRAINER_MODEL_MODEL_H_
