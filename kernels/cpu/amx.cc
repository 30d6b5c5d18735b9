#include "kernels/cpu/amx.h"

#include <atomic>
#include <cstdint>

#include "kernels/cpu/peak_rate.h"

#ifdef __x86_64__
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

// No code is made for them: they cannot feed tiles.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX2)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/amx.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/amx-inl.h"

HWY_BEFORE_NAMESPACE();
namespace jevons::cpu {
namespace HWY_NAMESPACE {

// Runs `rounds` of products into four tiles, which hide each other's latency. Returns the FLOP done.
double TileLoop(int64_t rounds) {
#if JEVONS_TARGET_HAS_TILES
  const TileScope tiles;  // all zero
  for (int64_t i = 0; i < rounds; ++i) {
    MultiplyTiles<0, 4, 6>();
    MultiplyTiles<1, 4, 7>();
    MultiplyTiles<2, 5, 6>();
    MultiplyTiles<3, 5, 7>();
  }
  return static_cast<double>(rounds) * 4 * 2 * kTileLines * kTileLines * kTileTerms;
#else
  return 0 * static_cast<double>(rounds);
#endif
}

}  // namespace HWY_NAMESPACE
}  // namespace jevons::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jevons::cpu {
namespace {

std::string ExamineAmx() {
#ifdef __x86_64__
  constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;  // CPUID leaf 7, EDX
  constexpr int kRequestPermission = 0x1023, kTileData = 18;    // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA: Linux 5.16
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & kAmxBf16) == 0 || (d & kAmxTile) == 0) {
    return "this CPU has no AMX for BF16";
  }
  if (syscall(SYS_arch_prctl, kRequestPermission, kTileData) != 0) return "Linux does not permit AMX here";
  return "";
#else
  return "this CPU has no AMX for BF16";
#endif
}

std::atomic<bool> g_assumed = false;

}  // namespace

std::string AmxProblem() {
  static const std::string problem = ExamineAmx();
  return g_assumed ? "" : problem;
}

void AssumeAmxForTest(bool assumed) { g_assumed = assumed; }

HWY_EXPORT(TileLoop);

double MeasureAmxPeak(int threads) {
  if (!AmxProblem().empty()) return 0;
  return PeakRate(threads, [] { return HWY_DYNAMIC_DISPATCH(TileLoop)(30000); });
}

}  // namespace jevons::cpu
#endif  // HWY_ONCE
