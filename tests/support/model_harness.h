// A model with its stores on one rank, filled with numbers, ready to run a micro-batch.
#ifndef JEVONS_TESTS_SUPPORT_MODEL_HARNESS_H_
#define JEVONS_TESTS_SUPPORT_MODEL_HARNESS_H_

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "kernels/ops/elementwise.h"
#include "parallel/comm/loopback.h"
#include "tests/support/tiny_model.h"
#include "trainer/model/head.h"
#include "trainer/model/stage.h"

namespace jevons {

class ModelHarness {
 public:
  ModelHarness(const ModelConfig& config, int64_t sequence_length, const EpGroups& ep, const PrecisionConfig& precision = {})
      : config_(config),
        memory_("activations", int64_t{1} << 30),
        scratch_("scratch", int64_t{1} << 30),
        pool_(int64_t{1} << 30, Device::kCpu),
        dispatcher_(ep, RoutingOf(config.moe())),
        weights_(config, dispatcher_.local_experts(), DType::kF32),
        model_(config, sequence_length, dispatcher_),
        binding_(config, weights_, precision),
        gradients_(weights_, EXACT) {
    for (size_t p = 0; p < weights_.specs().size(); ++p) {
      const Tensor flat = weights_.value(p).Reshape({weights_.value(p).size()});
      InitialValues(Context().ops, weights_.specs()[p], p, config.init_std(), 7, 0, flat);
      for (int64_t i = 0; i < flat.size() && weights_.specs()[p].init == ParamSpec::Init::kOnes; ++i)
        flat.as<float>()[i] += 0.2f * static_cast<float>(RandomUniform(3, p, static_cast<uint64_t>(i)));
    }
    for (size_t b = 0; b < weights_.bias_names().size(); ++b)
      for (int64_t e = 0; e < config.moe().routed_experts(); ++e)
        weights_.bias(b).as<float>()[e] = 0.1f * static_cast<float>(RandomUniform(4, b, static_cast<uint64_t>(e)));
    binding_.Quantize(Context().ops, nullptr);
  }

  LayerContext Context() {
    return {.ops = {.stream = {}, .scratch = &scratch_},
            .memory = &memory_,
            .dtype = DType::kF32,
            .wgrad = &wgrad_,
            .timer = &timer_,
            .non_finite = nullptr};
  }
  const WeightStore& weights() const { return weights_; }
  const WeightBinding& binding() const { return binding_; }

  static MicroBatch Batch(std::vector<int32_t>& tokens, int64_t sequences, int64_t S) {
    return {.sequences = sequences,
            .sequence_length = S,
            .tokens = Tensor::Of(tokens.data(), {sequences, S + 1}),
            .document_start = {}};
  }

  void BindGradients() {
    gradients_.Begin(Context().ops, {.shift = 50, .limit = 0x1p60});
    binding_.BindGradients(gradients_);
  }
  void Finish() {
    gradients_.Finish(Context().ops);
    for (int64_t i = 0; i < gradients_.flags().size(); ++i)
      JEVONS_CHECK(gradients_.flags().as<int64_t>()[i] == 0, "sum %lld was refused a contribution", static_cast<long long>(i));
  }

  LossSums Run(const MicroBatch& batch, const LossScales& scales) {
    BindGradients();
    std::vector<int64_t> counts(static_cast<size_t>(model_.moe_layers() * config_.moe().routed_experts()));
    std::vector<double> losses(static_cast<size_t>(model_.loss_terms()));
    const MicroBatchTotals totals{.losses = losses.data(),
                                  .counts = Tensor::Of(counts.data(), {model_.moe_layers(), config_.moe().routed_experts()})};
    NetworkStage whole(model_, {.layers = {0, config_.layers()}}, pool_);
    whole.Begin({.ctx = Context(),
                 .weights = &binding_.weights(),
                 .batch = [&](int) { return batch; },
                 .scales = scales,
                 .totals = [&](int) { return totals; }});
    whole.Forward(0).Finish();
    whole.Backward(0).Finish();
    Finish();
    return LossSums::Of(losses, config_.mtp().depth());
  }

  std::vector<double> Gradient(size_t param) const {
    const Tensor sum = gradients_.Whole(param);
    std::vector<double> gradient;
    for (int64_t i = 0; i < sum.size(); ++i) gradient.push_back(static_cast<double>(sum.as<int64_t>()[i]) * gradients_.unit());
    return gradient;
  }

  template <typename T>
  std::map<std::string, std::vector<T>> Params() const {
    std::map<std::string, std::vector<T>> params;
    for (size_t p = 0; p < weights_.specs().size(); ++p) {
      const float* data = weights_.value(p).as<float>();
      params[weights_.specs()[p].name] = std::vector<T>(data, data + weights_.value(p).size());
    }
    return params;
  }
  std::map<std::string, std::vector<float>> Biases() const {
    std::map<std::string, std::vector<float>> biases;
    for (size_t b = 0; b < weights_.bias_names().size(); ++b) {
      const float* data = weights_.bias(b).as<float>();
      biases[weights_.bias_names()[b]] = std::vector<float>(data, data + weights_.bias(b).size());
    }
    return biases;
  }
  Model& model() { return model_; }
  double Evaluate(const MicroBatch& batch, const Tensor& labels) {
    double sum = 0;
    NetworkStage whole(model_, {.layers = {0, config_.layers()}}, pool_);
    whole.Begin({.ctx = Context(),
                 .weights = &binding_.weights(),
                 .batch = [&](int) { return batch; },
                 .forward_only = true,
                 .head =
                     [&](const LayerContext& ctx, int, const Tensor& hidden) {
                       const Tensor rows = ctx.TempAs("labels", DType::kI32, {hidden.rows()});
                       CopyPositions(ctx.ops, labels, 0, labels.cols(), rows);
                       HeadLoss(ctx, binding_.weights().head.value, hidden, rows, &sum);
                     }});
    whole.Forward(0).Finish();
    return sum;
  }

 private:
  ModelConfig config_;
  MicroMemory memory_;
  Arena scratch_;
  MicroPool pool_;
  PhaseTimer timer_;
  WgradQueue wgrad_;
  Dispatcher dispatcher_;
  WeightStore weights_;
  Model model_;
  WeightBinding binding_;
  GradientStore gradients_;
};

}  // namespace jevons

#endif  // JEVONS_TESTS_SUPPORT_MODEL_HARNESS_H_
