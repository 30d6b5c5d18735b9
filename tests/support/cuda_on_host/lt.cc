// cuBLASLt's part on the host: the products that kernels/cuda/gemm_lt.h describes, with the layouts of scales that NVIDIA's
// documentation has, from operands that the library would take.
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "kernels/cuda/gemm_lt.h"
#include "kernels/fp8/formats.h"
#include "kernels/tensor/dtype.h"
#include "tests/support/cuda_on_host/device_memory.h"

namespace jevons::cuda {
namespace {

void Demand(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "cuBLASLt on the host: %s\n", what);
  std::abort();
}

int64_t SizeOf(LtType type) { return type == LtType::kF32 ? 4 : type == LtType::kBF16 ? 2 : 1; }

float Read(const void* data, LtType type, int64_t i) {
  switch (type) {
    case LtType::kF32: return static_cast<const float*>(data)[i];
    case LtType::kBF16: return static_cast<const bf16*>(data)[i];
    case LtType::kE4M3: return Decode<E4M3>(static_cast<const uint8_t*>(data)[i]);
  }
  return 0;
}

// Line i (a row of op(A), a column of op(B)), term l of k; `along`: terms follow each other in memory.
float Element(const LtOperand& x, LtType type, bool along, int64_t i, int64_t l) {
  return Read(x.data, type, along ? i * x.pitch + l : l * x.pitch + i);
}

float Scale(const LtOperand& x, int64_t lines, int64_t k, int64_t i, int64_t block) {
  const int64_t blocks = (k + 127) / 128;
  if (x.scales == LtScales::kVectors) return x.scale[block * lines + i];
  return x.scale[i / 128 * ((blocks + 3) / 4 * 4) + block];
}

bool Aligned(const void* p, int64_t pitch, LtType type) {
  return reinterpret_cast<uintptr_t>(p) % 16 == 0 && pitch * SizeOf(type) % 16 == 0;
}

void CheckScaled(const LtProduct& p) {
  Demand(p.a.transposed && !p.b.transposed, "FP8 operands lie along k");
  Demand(p.k % 16 == 0 && p.rows % 8 == 0 && p.cols % 8 == 0, "sides that block scaling takes");
  Demand(Aligned(p.a.data, p.a.pitch, p.in) && Aligned(p.b.data, p.b.pitch, p.in) && Aligned(p.d, p.d_pitch, p.out),
         "operands at multiples of 16 bytes");
  Demand(reinterpret_cast<uintptr_t>(p.a.scale) % 16 == 0 && reinterpret_cast<uintptr_t>(p.b.scale) % 16 == 0,
         "scales at multiples of 16 bytes");
  Demand(p.a.scales != LtScales::kNone && p.b.scales != LtScales::kNone &&
             (p.a.scales == LtScales::kVectors || p.b.scales == LtScales::kVectors),
         "no product of blocks with blocks");
}

}  // namespace

bool RunLt(const OpContext& ctx, const LtProduct& p) {
  ArenaScope scope(*ctx.scratch);
  LtWorkspace(ctx);
  const cuda_on_host::DeviceAccess access;
  const bool scaled = p.in == LtType::kE4M3;
  if (scaled) CheckScaled(p);
  if (p.in == LtType::kF32 && p.out != LtType::kF32) return false;  // no such types in the library's table
  // Pretends that BF16 must lie at multiples of 16 bytes, so that the copies are tried.
  if (p.in == LtType::kBF16 &&
      !(Aligned(p.a.data, p.a.pitch, p.in) && Aligned(p.b.data, p.b.pitch, p.in) && Aligned(p.d, p.d_pitch, p.out)))
    return false;
  if (ctx.stream.device == Device::kNone) return true;
  for (int64_t i = 0; i < p.rows; ++i) {
    for (int64_t j = 0; j < p.cols; ++j) {
      float sum = 0, part = 0;
      for (int64_t l = 0; l < p.k; ++l) {
        part = std::fma(Element(p.a, p.in, p.a.transposed, i, l), Element(p.b, p.in, !p.b.transposed, j, l), part);
        if (!scaled || ((l + 1) % 128 != 0 && l + 1 < p.k)) continue;
        sum = sum + part * (Scale(p.b, p.cols, p.k, j, l / 128) * Scale(p.a, p.rows, p.k, i, l / 128));
        part = 0;
      }
      if (!scaled) sum = part;
      const int64_t at = j * p.d_pitch + i;
      if (p.add) sum = Read(p.d, p.out, at) + sum;
      if (p.out == LtType::kF32) {
        static_cast<float*>(p.d)[at] = sum;
      } else {
        static_cast<bf16*>(p.d)[at] = bf16(sum);
      }
    }
  }
  return true;
}

std::string LtVersion() { return "on the host"; }

}  // namespace jevons::cuda
