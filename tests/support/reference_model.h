// The whole network by the scalar references, forward only, on any number type: with std::complex<double> it gives the exact
// gradient of the training loss by complex step. Parameters by name, as in the parameter table; no dispatch, no
// micro-batches, one token at a time.
#ifndef JEVONS_TESTS_SUPPORT_REFERENCE_MODEL_H_
#define JEVONS_TESTS_SUPPORT_REFERENCE_MODEL_H_

#include <map>
#include <string>
#include <vector>

#include "kernels/ref/attention.h"
#include "kernels/ref/embedding.h"
#include "kernels/ref/gemm.h"
#include "kernels/ref/rmsnorm.h"
#include "kernels/ref/rope.h"
#include "kernels/ref/router.h"
#include "kernels/ref/softmax_xent.h"
#include "kernels/ref/swiglu.h"
#include "trainer/model/model.h"

namespace jevons {

template <typename T>
class ReferenceModel {
 public:
  using Vec = std::vector<T>;
  using Params = std::map<std::string, Vec>;

  ReferenceModel(const ModelConfig& config, const Params& params, const std::map<std::string, std::vector<float>>& biases,
                 const std::vector<int32_t>& document_start = {})
      : c_(config), p_(params), biases_(biases), document_start_(document_start) {}

  struct Losses {
    T main = 0, mtp = 0, balance = 0;  // sums, as LossSums
  };

  // tokens: [sequences, S + 1].
  Losses Loss(const std::vector<int32_t>& tokens, int64_t sequences, int64_t S) const {
    Losses losses;
    Vec x = Embed(tokens, sequences, S, 0, S);
    for (int64_t layer = 0; layer < c_.layers(); ++layer)
      x = Block(Name(layer), x, sequences, S, S, layer < c_.dense_layers(), losses.balance);
    Vec hidden = Norm(x, "model.norm.weight", c_.hidden_size());
    losses.main = CrossEntropy(hidden, tokens, sequences, S, S, 1);
    for (int64_t k = 1; k <= c_.mtp().depth(); ++k) {
      hidden = Mtp(k, hidden, tokens, sequences, S, losses.balance);
      losses.mtp += CrossEntropy(hidden, tokens, sequences, S, S - k, k + 1);
    }
    return losses;
  }

  // Logits [sequences * S, V] of the main model; reads the first S tokens of each sequence.
  Vec Logits(const std::vector<int32_t>& tokens, int64_t sequences, int64_t S) const {
    T unused = 0;
    Vec x = Embed(tokens, sequences, S, 0, S);
    for (int64_t layer = 0; layer < c_.layers(); ++layer)
      x = Block(Name(layer), x, sequences, S, S, layer < c_.dense_layers(), unused);
    return Linear(Norm(x, "model.norm.weight", c_.hidden_size()), "lm_head.weight", c_.hidden_size());
  }

 private:
  static std::string Name(int64_t layer) { return "model.layers." + std::to_string(layer) + "."; }
  const Vec& P(const std::string& name) const { return p_.at(name); }

  // [rows, n] = x [rows, k] W[n, k]^T, W at `weight`.
  static Vec Product(const Vec& x, int64_t k, const T* weight, int64_t n) {
    const auto rows = static_cast<int64_t>(x.size()) / k;
    Vec y(static_cast<size_t>(rows * n));
    ref::Gemm<T, T, T>(rows, n, k, {x.data(), k, Form::kPlain}, {weight, k, Form::kTransposed}, WriteMode::kOverwrite, y.data(),
                       n);
    return y;
  }
  Vec Linear(const Vec& x, const std::string& name, int64_t k) const {
    return Product(x, k, P(name).data(), static_cast<int64_t>(P(name).size()) / k);
  }
  Vec Norm(const Vec& x, const std::string& name, int64_t cols) const {
    const auto rows = static_cast<int64_t>(x.size()) / cols;
    Vec y(x.size()), rstd(static_cast<size_t>(rows));
    const bool latent = name.find("_a_layernorm") != std::string::npos;
    const float eps = latent ? 1e-6f : static_cast<float>(c_.norm_eps());
    ref::RmsNorm(rows, cols, x.data(), P(name).data(), eps, y.data(), rstd.data());
    return y;
  }
  static Vec Sum(Vec a, const Vec& b) {
    for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
    return a;
  }
  // Columns [begin, begin + n) of a matrix with `cols`.
  static Vec Columns(const Vec& x, int64_t cols, int64_t begin, int64_t n) {
    Vec y;
    for (size_t r = 0; r < x.size() / static_cast<size_t>(cols); ++r) {
      const auto row = x.begin() + static_cast<int64_t>(r) * cols + begin;
      y.insert(y.end(), row, row + n);
    }
    return y;
  }
  static Vec Concatenate(const Vec& a, const Vec& b, int64_t cols) {
    Vec y;
    for (size_t r = 0; r < a.size(); r += static_cast<size_t>(cols)) {
      const auto at = static_cast<int64_t>(r);
      y.insert(y.end(), a.begin() + at, a.begin() + at + cols);
      y.insert(y.end(), b.begin() + at, b.begin() + at + cols);
    }
    return y;
  }

  Vec Embed(const std::vector<int32_t>& tokens, int64_t sequences, int64_t S, int64_t shift, int64_t positions) const {
    std::vector<int32_t> ids;
    for (int64_t s = 0; s < sequences; ++s)
      for (int64_t i = 0; i < positions; ++i) ids.push_back(tokens[static_cast<size_t>(s * (S + 1) + i + shift)]);
    Vec x(ids.size() * static_cast<size_t>(c_.hidden_size()));
    ref::Embedding(static_cast<int64_t>(ids.size()), c_.hidden_size(), P("model.embed_tokens.weight").data(), ids.data(),
                   x.data());
    return x;
  }

  void Turn(Vec& x, int64_t heads, int64_t head_dim, int64_t offset, int64_t length) const {
    const int64_t pairs = c_.attention().rope_dim() / 2;
    std::vector<float> cos(static_cast<size_t>(length * pairs)), sin(cos.size());
    FillRopeTable(c_.attention().rope_theta(), 2 * pairs, RopeScalingOf(c_.attention().yarn()),
                  Tensor::Of(cos.data(), {length, pairs}), Tensor::Of(sin.data(), {length, pairs}));
    const Vec c(cos.begin(), cos.end()), s(sin.begin(), sin.end());
    ref::Rope(static_cast<int64_t>(x.size()) / (heads * head_dim), heads, head_dim, offset, pairs, length, c.data(), s.data(), 1,
              x.data());
  }

  Vec Attention(const std::string& name, const Vec& x, int64_t sequences, int64_t S, int64_t length) const {
    const AttentionConfig& a = c_.attention();
    const int64_t H = c_.hidden_size(), rows = sequences * length, head = a.nope_dim() + a.rope_dim();
    Vec q = a.query_rank() > 0
                ? Linear(Norm(Linear(x, name + "q_a_proj.weight", H), name + "q_a_layernorm.weight", a.query_rank()),
                         name + "q_b_proj.weight", a.query_rank())
                : Linear(x, name + "q_proj.weight", H);
    Turn(q, a.heads(), head, a.nope_dim(), length);
    const Vec latent = Linear(x, name + "kv_a_proj_with_mqa.weight", H);
    Vec k_rope = Columns(latent, a.kv_rank() + a.rope_dim(), a.kv_rank(), a.rope_dim());
    Turn(k_rope, 1, a.rope_dim(), 0, length);
    const Vec kv =
        Linear(Norm(Columns(latent, a.kv_rank() + a.rope_dim(), 0, a.kv_rank()), name + "kv_a_layernorm.weight", a.kv_rank()),
               name + "kv_b_proj.weight", a.kv_rank());
    std::vector<int32_t> starts;
    for (int64_t s = 0; s < sequences && !document_start_.empty(); ++s)
      for (int64_t i = 0; i < length; ++i) starts.push_back(document_start_[static_cast<size_t>(s * S + i)]);
    const ref::AttentionShape shape{.rows = rows,
                                    .sequence_length = length,
                                    .heads = a.heads(),
                                    .nope = a.nope_dim(),
                                    .rope = a.rope_dim(),
                                    .value = a.value_dim(),
                                    .scale = AttentionScale(a),
                                    .document_start = starts.empty() ? nullptr : starts.data()};
    Vec o(static_cast<size_t>(rows * a.heads() * a.value_dim())), lse(static_cast<size_t>(rows * a.heads())),
        scores(static_cast<size_t>(length));
    ref::Attention(shape, q.data(), kv.data(), k_rope.data(), o.data(), lse.data(), scores.data());
    return Linear(o, name + "o_proj.weight", a.heads() * a.value_dim());
  }

  Vec Ffn(const Vec& x, const T* gate_up, const T* down, int64_t width, const T* weight) const {
    const Vec hidden = Product(x, c_.hidden_size(), gate_up, 2 * width);
    Vec activated(hidden.size() / 2);
    ref::SwiGlu(static_cast<int64_t>(activated.size()) / width, width, hidden.data(), weight, activated.data());
    return Product(activated, width, down, c_.hidden_size());
  }

  Vec Moe(const std::string& name, const Vec& x, int64_t sequences, int64_t length, T& balance) const {
    const MoeConfig& m = c_.moe();
    const int64_t H = c_.hidden_size(), E = m.routed_experts(), width = m.intermediate_size();
    const ref::RouterShape shape{.experts = E,
                                 .top_k = m.top_k(),
                                 .groups = m.groups(),
                                 .kept_groups = m.kept_groups(),
                                 .route_scale = static_cast<float>(m.route_scale()),
                                 .normalize = m.normalize_weights()};
    Vec biased(static_cast<size_t>(E)), group(static_cast<size_t>(E));
    std::vector<int32_t> best(static_cast<size_t>(E)), indices(static_cast<size_t>(m.top_k()));
    std::vector<uint8_t> taken(static_cast<size_t>(E));
    const ref::RouterBuffers<T> buffers{biased.data(), group.data(), best.data(), taken.data()};
    const std::vector<float>& bias_values = biases_.at(name + "gate.e_score_correction_bias");
    const Vec bias(bias_values.begin(), bias_values.end()), logits = Linear(x, name + "gate.weight", H);
    const int64_t shared = m.shared_experts() * width;
    Vec y = shared > 0 ? Ffn(x, P(name + "shared_experts.gate_up_proj.weight").data(),
                             P(name + "shared_experts.down_proj.weight").data(), shared, nullptr)
                       : Vec(x.size(), T(0));
    Vec scores(logits.size()), weights(static_cast<size_t>(m.top_k()));
    for (int64_t t = 0; t < sequences * length; ++t) {
      ref::RouteRow(shape, logits.data() + t * E, bias.data(), scores.data() + t * E, indices.data(), weights.data(), buffers);
      const Vec row(x.begin() + t * H, x.begin() + (t + 1) * H);
      for (int64_t k = 0; k < m.top_k(); ++k) {
        const int64_t e = indices[static_cast<size_t>(k)];
        const Vec result =
            Ffn(row, P(name + "experts.gate_up_proj.weight").data() + e * 2 * width * H,
                P(name + "experts.down_proj.weight").data() + e * width * H, width, &weights[static_cast<size_t>(k)]);
        for (int64_t i = 0; i < H; ++i) y[static_cast<size_t>(t * H + i)] += result[static_cast<size_t>(i)];
      }
    }
    Vec fractions(static_cast<size_t>(E));
    for (int64_t s = 0; s < sequences; ++s)
      balance += ref::SequenceBalanceLoss(shape, length, scores.data() + s * length * E, E, fractions.data(), buffers);
    return y;
  }

  Vec Block(const std::string& name, const Vec& x, int64_t sequences, int64_t S, int64_t length, bool dense, T& balance) const {
    const int64_t H = c_.hidden_size();
    const Vec h = Sum(x, Attention(name + "self_attn.", Norm(x, name + "input_layernorm.weight", H), sequences, S, length));
    const Vec normed = Norm(h, name + "post_attention_layernorm.weight", H);
    if (!dense) return Sum(h, Moe(name + "mlp.", normed, sequences, length, balance));
    return Sum(h, Ffn(normed, P(name + "mlp.gate_up_proj.weight").data(), P(name + "mlp.down_proj.weight").data(),
                      c_.dense_intermediate_size(), nullptr));
  }

  Vec Mtp(int64_t k, const Vec& previous, const std::vector<int32_t>& tokens, int64_t sequences, int64_t S, T& balance) const {
    const int64_t H = c_.hidden_size(), length = S - k;
    const std::string name = Name(c_.layers() + k - 1);
    Vec hidden;
    for (int64_t s = 0; s < sequences; ++s) {
      const auto row = previous.begin() + s * (length + 1) * H;
      hidden.insert(hidden.end(), row, row + length * H);
    }
    const Vec joined = Concatenate(Norm(Embed(tokens, sequences, S, k, length), name + "enorm.weight", H),
                                   Norm(hidden, name + "hnorm.weight", H), H);
    const Vec y = Block(name, Linear(joined, name + "eh_proj.weight", 2 * H), sequences, S, length, false, balance);
    return Norm(y, name + "shared_head.norm.weight", H);
  }

  T CrossEntropy(const Vec& hidden, const std::vector<int32_t>& tokens, int64_t sequences, int64_t S, int64_t positions,
                 int64_t shift) const {
    const Vec logits = Linear(hidden, "lm_head.weight", c_.hidden_size());
    std::vector<int32_t> labels;
    for (int64_t s = 0; s < sequences; ++s)
      for (int64_t i = 0; i < positions; ++i) labels.push_back(tokens[static_cast<size_t>(s * (S + 1) + i + shift)]);
    Vec losses(labels.size());
    ref::CrossEntropy(static_cast<int64_t>(labels.size()), c_.vocab_size(), logits.data(), labels.data(), losses.data());
    T sum = 0;
    for (const T& loss : losses) sum += loss;
    return sum;
  }

  const ModelConfig& c_;
  const Params& p_;
  const std::map<std::string, std::vector<float>>& biases_;
  const std::vector<int32_t> document_start_;
};

}  // namespace jevons

#endif  // JEVONS_TESTS_SUPPORT_REFERENCE_MODEL_H_
