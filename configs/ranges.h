// The legal range of every number in a run. The upper ends are no judgement of taste: with them, every
// product that the program forms of these numbers (tensor sizes, byte counts, token positions) fits into 63
// bits.
#ifndef JEVONS_CONFIGS_RANGES_H_
#define JEVONS_CONFIGS_RANGES_H_

#include <cstdint>

namespace jevons {

enum class When {
  kAlways,
  kDense,
  kMoe,
  kSteps
};  // needed always, with a dense layer, with an MoE layer or MTP module, where nothing but steps ends the run

struct IntRange {
  const char* path;
  int64_t min, max;
  When when = When::kAlways;
};

struct RealRange {
  const char* path;
  double min, max;
  bool optional = false;  // may be left unset without a default
};

inline constexpr int64_t kMillion = 1'000'000, kBillion = 1'000'000'000;

inline constexpr IntRange kIntRanges[] = {
    {"model.vocab_size", 0, 16 * kMillion},
    {"model.hidden_size", 1, 131072},
    {"model.layers", 1, 1024},
    {"model.dense_layers", 0, 1024},
    {"model.dense_intermediate_size", 1, 1048576, When::kDense},
    {"model.attention.heads", 1, 4096},
    {"model.attention.query_rank", 0, 131072},
    {"model.attention.kv_rank", 1, 131072},
    {"model.attention.nope_dim", 1, 4096},
    {"model.attention.rope_dim", 2, 4096},
    {"model.attention.value_dim", 1, 4096},
    {"model.attention.yarn.original_length", 1, 16 * kMillion},
    {"model.moe.routed_experts", 1, 8192, When::kMoe},
    {"model.moe.shared_experts", 0, 64, When::kMoe},
    {"model.moe.top_k", 1, 1024, When::kMoe},
    {"model.moe.groups", 1, 8192, When::kMoe},
    {"model.moe.kept_groups", 1, 8192, When::kMoe},
    {"model.moe.intermediate_size", 1, 131072, When::kMoe},
    {"model.mtp.depth", 0, 64},
    {"data.sequence_length", 1, 16 * kMillion},
    {"train.steps", 1, 10 * kBillion, When::kSteps},
    {"train.batch_sequences", 1, kMillion},
    {"train.micro_batch_sequences", 1, kMillion},
    {"train.batch_ramp_start", 0, kMillion},
    {"train.eval_interval", 0, 10 * kBillion},
    {"train.eval_sequences", 1, kBillion},
    {"train.bad_step.spike_window", 2, kMillion},
    {"train.bad_step.most_in_a_row", 0, kMillion},
    {"train.verify_replicas", 0, 10 * kBillion},
    {"train.verify_products", 0, 10 * kBillion},
    {"optimizer.learning_rate.warmup_steps", 0, 10 * kBillion},
    {"parallel.ep", 1, 8192},
    {"parallel.pp", 1, 1024},
    {"parallel.ep_nodes", 0, 8192},
    {"parallel.virtual_stages", 1, 64},
    {"parallel.threads", 0, 4096},
    {"checkpoint.interval", 0, 10 * kBillion},
    {"checkpoint.keep", 1, kMillion},
    {"checkpoint.memory_interval", 0, 10 * kBillion},
    {"precision.shadow_interval", 0, 10 * kBillion},
    {"log.interval", 1, 10 * kBillion},
};

inline constexpr RealRange kRealRanges[] = {
    {"model.norm_eps", 1e-20, 1},
    {"model.init_std", 1e-9, 10},
    {"model.attention.rope_theta", 1.001, 1e12},
    {"model.attention.yarn.factor", 1, 1e6},
    {"model.attention.yarn.beta_fast", 1e-3, 1e6},
    {"model.attention.yarn.beta_slow", 1e-3, 1e6},
    {"model.attention.yarn.mscale", 0, 100},
    {"model.attention.yarn.attention_factor", 1e-3, 1e3},
    {"model.moe.route_scale", 1e-6, 1e6},
    {"data.fim_rate", 0, 1},
    {"train.tokens", 0, 4e18},
    {"train.dollars", 0, 1e12},
    {"train.batch_ramp_tokens", 0, 1e18},
    {"train.bad_step.spike_sigmas", 0, 1e6},
    {"optimizer.beta1", 0, 0.999999},
    {"optimizer.beta2", 0, 0.9999999},
    {"optimizer.eps", 1e-30, 1},
    {"optimizer.weight_decay", 0, 100},
    {"optimizer.clip_norm", 0, 1e9},
    {"optimizer.ema_decay", 0, 0.9999999},
    {"optimizer.learning_rate.peak", 0, 10},
    {"optimizer.learning_rate.constant_tokens", 0, 1e18},
    {"optimizer.learning_rate.decay_tokens", 0, 1e18},
    {"optimizer.learning_rate.final", 0, 10},
    {"optimizer.learning_rate.decay_fraction", 0, 1},
    {"balance.sequence_loss", 0, 1e3},
    {"parallel.watchdog_seconds", 0.1, 1e7},
    {"cost.price_per_device_hour", 0, 1e6, true},
    {"cost.peak_tflops", 0, 1e9},
    {"cost.reference_mfu", 0, 1},
};

}  // namespace jevons

#endif  // JEVONS_CONFIGS_RANGES_H_
