#include "tests/support/amx_model.h"

#include <immintrin.h>
#include <signal.h>
#include <ucontext.h>

#include <atomic>
#include <bit>
#include <cstdlib>
#include <cstring>

#include "kernels/base/check.h"
#include "kernels/cpu/amx.h"

namespace jevons {
namespace {

constexpr int kTiles = 8, kRows = 16, kRowBytes = 64, kColumns = kRowBytes / 4;

struct TileFile {
  bool configured = false;
  uint8_t rows[kTiles];
  uint16_t row_bytes[kTiles];
  alignas(64) uint8_t bytes[kTiles][kRows][kRowBytes];
};
thread_local TileFile t_tiles;
std::atomic<int64_t> g_products{0};

// A tile instruction and where its operands lie.
struct Instruction {
  enum Prefix { kNone = 0, kF3 = 2, kF2 = 3 };  // VEX.pp
  int prefix, opcode, mod, reg, rm, vvvv;
  uint8_t* memory = nullptr;  // the effective address without the index; LDTILECFG takes the index into it
  int64_t stride = 0;         // the scaled index register
  int length;
};

int64_t RegisterOf(const ucontext_t& context, int number) {
  constexpr int kOrder[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                            REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  return context.uc_mcontext.gregs[kOrder[number]];
}

// Whether the code at the stopped instruction is one of VEX map 2 without W and L, as all of AMX's are; reads it if so.
bool Read(const ucontext_t& context, Instruction& in) {
  const auto* const begin = reinterpret_cast<const uint8_t*>(context.uc_mcontext.gregs[REG_RIP]);
  const uint8_t* p = begin;
  if (*p++ != 0xC4) return false;
  const int r = ~*p >> 7 & 1, x = ~*p >> 6 & 1, b = ~*p >> 5 & 1;
  if ((*p++ & 0x1F) != 2) return false;
  if ((*p & 0x84) != 0) return false;
  in.vvvv = ~(*p >> 3) & 15;
  in.prefix = *p++ & 3;
  in.opcode = *p++;
  in.mod = *p >> 6;
  in.reg = (*p >> 3 & 7) | r << 3;
  in.rm = (*p++ & 7) | b << 3;
  if (in.mod != 3) {
    const bool relative = in.mod == 0 && (in.rm & 7) == 5;
    int64_t base = 0;
    bool wide = in.mod == 2 || relative;
    if ((in.rm & 7) == 4) {  // SIB byte
      const int scale = *p >> 6, index = (*p >> 3 & 7) | x << 3, base_register = (*p & 7) | b << 3;
      ++p;
      if (index != 4) in.stride = RegisterOf(context, index) << scale;
      if (in.mod == 0 && (base_register & 7) == 5) {
        wide = true;
      } else {
        base = RegisterOf(context, base_register);
      }
    } else if (!relative) {
      base = RegisterOf(context, in.rm);
    }
    if (wide) {
      int32_t displacement;
      std::memcpy(&displacement, p, sizeof(displacement));
      p += sizeof(displacement);
      base += displacement;
    } else if (in.mod == 1) {
      base += static_cast<int8_t>(*p++);
    }
    if (relative) base += reinterpret_cast<int64_t>(p);
    in.memory = reinterpret_cast<uint8_t*>(base);
  }
  in.length = static_cast<int>(p - begin);
  return true;
}

bool Usable(int tile) { return t_tiles.configured && tile < kTiles && t_tiles.rows[tile] > 0; }

bool Configure(const uint8_t* config) {
  TileFile& tiles = t_tiles;
  if (config[0] != 1) return false;  // the palette
  for (int t = 0; t < kTiles; ++t) {
    std::memcpy(&tiles.row_bytes[t], config + 16 + 2 * t, sizeof(uint16_t));
    tiles.rows[t] = config[48 + t];
    if (tiles.rows[t] > kRows || tiles.row_bytes[t] > kRowBytes) return false;
  }
  std::memset(tiles.bytes, 0, sizeof(tiles.bytes));
  return tiles.configured = true;
}

void Move(int tile, uint8_t* memory, int64_t stride, bool load) {
  TileFile& tiles = t_tiles;
  if (load) std::memset(tiles.bytes[tile], 0, sizeof(tiles.bytes[tile]));
  for (int i = 0; i < tiles.rows[tile]; ++i, memory += stride) {
    if (load) {
      std::memcpy(tiles.bytes[tile][i], memory, tiles.row_bytes[tile]);
    } else {
      std::memcpy(memory, tiles.bytes[tile][i], tiles.row_bytes[tile]);
    }
  }
}

// One row of C continued by one row of A and all of B, under an MXCSR that takes and gives denormals as zero.
__attribute__((noinline, target("avx2,fma"))) void MultiplyRow(const uint32_t* a, const uint32_t (*b)[kColumns], float* c) {
  float even[kColumns] = {}, odd[kColumns] = {};
  for (int k = 0; k < kRowBytes / 4; ++k) {
    const float a_even = std::bit_cast<float>(a[k] << 16), a_odd = std::bit_cast<float>(a[k] & 0xFFFF0000u);
    for (int n = 0; n < kColumns; ++n) {
      even[n] = __builtin_fmaf(a_even, std::bit_cast<float>(b[k][n] << 16), even[n]);
      odd[n] = __builtin_fmaf(a_odd, std::bit_cast<float>(b[k][n] & 0xFFFF0000u), odd[n]);
    }
  }
  for (int n = 0; n < kColumns; ++n) c[n] = c[n] + (even[n] + odd[n]);
}

bool Multiply(int c, int a, int b) {
  if (!Usable(c) || !Usable(a) || !Usable(b) || c == a || c == b || a == b) return false;
  TileFile& tiles = t_tiles;
  if (tiles.rows[c] != tiles.rows[a] || tiles.row_bytes[c] != tiles.row_bytes[b] || tiles.row_bytes[a] / 4 != tiles.rows[b]) {
    return false;
  }
  constexpr unsigned kNearestFlushDenormals = 0x9FC0;  // all exceptions masked, FTZ, DAZ
  const unsigned before = _mm_getcsr();
  _mm_setcsr(kNearestFlushDenormals);
  for (int i = 0; i < tiles.rows[c]; ++i) {
    MultiplyRow(reinterpret_cast<const uint32_t*>(tiles.bytes[a][i]),
                reinterpret_cast<const uint32_t(*)[kColumns]>(tiles.bytes[b]), reinterpret_cast<float*>(tiles.bytes[c][i]));
  }
  _mm_setcsr(before);
  g_products.fetch_add(1, std::memory_order_relaxed);
  return true;
}

bool Execute(const Instruction& in) {
  using I = Instruction;
  const bool memory = in.mod != 3;
  if (in.opcode == 0x49 && in.prefix == I::kNone && memory) return Configure(in.memory + in.stride);
  if (in.opcode == 0x49 && in.prefix == I::kNone) return t_tiles.configured = false, true;  // TILERELEASE
  if (in.opcode == 0x5C && in.prefix == I::kF3 && !memory) return Multiply(in.reg, in.rm, in.vvvv);
  if (!Usable(in.reg)) return false;
  if (in.opcode == 0x49 && in.prefix == I::kF2 && !memory) {  // TILEZERO
    std::memset(t_tiles.bytes[in.reg], 0, sizeof(t_tiles.bytes[in.reg]));
    return true;
  }
  if (in.opcode != 0x4B || !memory || (in.prefix != I::kF2 && in.prefix != I::kF3)) return false;
  return Move(in.reg, in.memory, in.stride, in.prefix == I::kF2), true;
}

void OnIllegalInstruction(int, siginfo_t*, void* argument) {
  auto& context = *static_cast<ucontext_t*>(argument);
  Instruction in;
  if (!Read(context, in) || !Execute(in)) {
    signal(SIGILL, SIG_DFL);  // the instruction runs again, and ends the process as it would without the model
    return;
  }
  context.uc_mcontext.gregs[REG_RIP] += in.length;
}

bool Install() {
  if (cpu::AmxProblem().empty()) return false;
  struct sigaction action = {};
  action.sa_sigaction = OnIllegalInstruction;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  JEVONS_CHECK(sigaction(SIGILL, &action, nullptr) == 0, "no handler for SIGILL");
  cpu::AssumeAmxForTest(true);
  return true;
}

}  // namespace

bool UseAmxModelWhereAbsent() {
  static const bool installed = Install();
  return installed;
}

int64_t AmxModelProducts() { return g_products; }

}  // namespace jevons
