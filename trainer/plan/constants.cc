#include "trainer/plan/constants.h"

namespace jevons {
namespace {

constexpr ConstantNote kNotes[] = {
    {"hbm_share", &Constants::hbm_share, "FlashMLA: 3000 of 3350 GB/s on H800"},
    {"elementwise_share", &Constants::elementwise_share,
     "fitted on DeepSeek's published trace: permutation 5.1, norms 3.5, RoPE and copies 3.1, SwiGLU 1.9 ms"},
    {"cast_share", &Constants::cast_share, "fitted on the same trace: casts and transposes 16.7 ms"},
    {"fp8_wgrad_share", &Constants::fp8_wgrad_share, "fitted on the same trace: FP8 weight gradients 32.8 ms"},
    {"attention_half_length", &Constants::attention_half_length, "fitted: cuDNN 9.19.1, H200, 2048 to 8192 tokens"},
    {"nvlink_share", &Constants::nvlink_share,
     "DeepEP on H800 (200 GB/s): 153 GB/s at EP8 with the rows that stay, 134 without; 129 at EP16, where it limits"},
    {"network_share", &Constants::network_share, "DeepEP: 58 GB/s at EP32 of which 3/4 travel, 51 at EP64 of which 7/8; of 50"},
    {"plain_share", &Constants::plain_share,
     "fitted: the plain all-to-all row (Qwen3-30B-A3B), when its gate was not known to be balanced"},
    {"overlap_slowdown", &Constants::overlap_slowdown, "fitted on the same trace: grouped products 22.9 ms on 112 of 132 SMs"},
    {"tensor_exposed", &Constants::tensor_exposed, "fitted: the two dense rows of Megatron-Bridge"},
    {"expert_imbalance", &Constants::expert_imbalance, "assumed: fullest rank of 64 with bias-balanced experts"},
    {"unevenness", &Constants::unevenness, "FITTED ON DEEPSEEK-V3'S STEP: 19.926 s, arXiv 2505.09343, table 4"},
};

}  // namespace

std::span<const ConstantNote> ConstantNotes() { return kNotes; }

}  // namespace jevons
