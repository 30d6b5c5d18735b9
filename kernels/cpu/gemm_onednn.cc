// BF16 products by oneDNN, for CPUs with AMX, where they are about ten times as fast as FP32 ones. Debian's
// oneDNN compiles a primitive per shape, so shapes are taken from a small set whatever the number of rows of
// an expert:
//   rows of C   blocks of 128, the rest filled up to 16, 32, 64 or 128;
//   terms       blocks of 2048, the rest filled up with zeros to one of 16 sizes; the blocks' sums are added
//   in FP32.
// A and C are dense blocks: with any other pitch this oneDNN falls back to slow code. B is laid out as oneDNN
// likes it. Every call runs on one thread, so bits depend on k and the instruction set, and not on m or on
// the number of threads.
#include <omp.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <tuple>
#include <vector>

#include "kernels/cpu/gemm_impl.h"
#include "kernels/cpu/gemm_plan.h"
#include "oneapi/dnnl/dnnl.hpp"

namespace jevons::cpu {
namespace {

using dnnl::memory;

constexpr int64_t kBlockRows = 128;
constexpr int64_t kBlockTerms = 2048;

int64_t RoundUp(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

int64_t FilledRows(int64_t rows) {
  for (int64_t size = 16; size < kBlockRows; size *= 2) {
    if (rows <= size) return size;
  }
  return kBlockRows;
}

int64_t FilledTerms(int64_t terms) { return RoundUp(terms, terms <= 128 ? 32 : terms <= 512 ? 64 : 256); }

// oneDNN plans for, and runs on, as many threads as OpenMP offers: while this lives that is one.
class OneThread {
 public:
  OneThread() : threads_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(threads_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int threads_;
};

// A dense BF16 matrix of `rows` x `cols` in the sense of the product, lying in `form`.
memory::desc Layout(int64_t rows, int64_t cols, Form form) {
  const memory::dims strides = form == Form::kPlain ? memory::dims{cols, 1} : memory::dims{1, rows};
  return memory::desc({rows, cols}, memory::data_type::bf16, strides);
}

// A block of an operand: `rows` of C's rows or columns by `terms` of k, of which the first valid_* are there.
struct BlockShape {
  int64_t rows, terms;
  int64_t valid_rows, valid_terms;
};

// The block at `from`, copied to `to` and filled up with zeros if it is not whole and dense. It keeps its
// form.
const bf16* DenseBlock(const bf16* from, int64_t pitch, bool terms_contiguous, const BlockShape& shape,
                       bf16* to) {
  const int64_t lines = terms_contiguous ? shape.rows : shape.terms,
                width = terms_contiguous ? shape.terms : shape.rows;
  const int64_t valid_lines = terms_contiguous ? shape.valid_rows : shape.valid_terms;
  const int64_t valid_width = terms_contiguous ? shape.valid_terms : shape.valid_rows;
  if (valid_lines == lines && valid_width == width && pitch == width) return from;
  for (int64_t i = 0; i < lines; ++i) {
    const int64_t valid = i < valid_lines ? valid_width : 0;
    if (valid > 0) std::memcpy(to + i * width, from + i * pitch, valid * sizeof(bf16));
    std::fill(to + i * width + valid, to + (i + 1) * width, bf16());
  }
  return to;
}

// One thread's primitives and buffers.
class Worker {
 public:
  static Worker& OfThisThread() {
    thread_local Worker worker;
    return worker;
  }

  // Lays out B's columns for the products with terms [begin, begin + terms).
  void PackB(const GemmDesc& desc, Range cols, int64_t begin, int64_t terms) {
    n_ = cols.size();
    terms_ = FilledTerms(terms);
    const bool plain = desc.b_form == Form::kPlain;
    const int64_t pitch = desc.b.pitch;
    const bf16* b = desc.b.as<bf16>() + (plain ? begin * pitch + cols.begin : cols.begin * pitch + begin);
    Reorder& reorder = ReorderOf(desc.b_form);
    const bf16* block = DenseBlock(b, pitch, !plain, {n_, terms_, n_, terms}, b_block_.data());
    reorder.from.set_data_handle(const_cast<bf16*>(block));
    reorder.to.set_data_handle(b_packed_buffer_.data());
    reorder.primitive.execute(stream_, {{DNNL_ARG_FROM, reorder.from}, {DNNL_ARG_TO, reorder.to}});
    b_packed_ = reorder.to;
  }

  // The sums [rows, n] of A's rows [row, row + rows) times the packed B, dense.
  const float* Multiply(const GemmDesc& desc, int64_t row, int64_t rows, int64_t begin, int64_t terms) {
    const bool plain = desc.a_form == Form::kPlain;
    const int64_t pitch = desc.a.pitch, filled = FilledRows(rows);
    const bf16* a = desc.a.as<bf16>() + (plain ? row * pitch + begin : begin * pitch + row);
    Product& product = ProductOf(filled, desc.a_form);
    product.a.set_data_handle(
        const_cast<bf16*>(DenseBlock(a, pitch, plain, {filled, terms_, rows, terms}, a_block_.data())));
    product.c.set_data_handle(sums_.data());
    product.primitive.execute(
        stream_, {{DNNL_ARG_SRC, product.a}, {DNNL_ARG_WEIGHTS, b_packed_}, {DNNL_ARG_DST, product.c}});
    return sums_.data();
  }

 private:
  struct Product {
    dnnl::matmul primitive;
    memory a, c;
  };
  struct Reorder {
    dnnl::reorder primitive;
    memory from, to;
  };

  memory::desc Sums(int64_t rows) const {
    return memory::desc({rows, n_}, memory::data_type::f32, memory::dims{n_, 1});
  }

  // All products of one n and k read B as a block of kBlockRows rows would have it.
  Reorder& ReorderOf(Form form) {
    auto [it, is_new] = reorders_.try_emplace({n_, terms_, form});
    if (is_new) {
      const memory::desc any({terms_, n_}, memory::data_type::bf16, memory::format_tag::any);
      const dnnl::matmul::desc desc(Layout(kBlockRows, terms_, Form::kPlain), any, Sums(kBlockRows));
      const memory::desc packed = dnnl::matmul::primitive_desc(desc, engine_).weights_desc();
      JEVONS_CHECK(packed.get_size() <= b_packed_buffer_.size() * sizeof(bf16));
      Reorder& reorder = it->second;
      reorder.from = memory(Layout(terms_, n_, form), engine_, nullptr);
      reorder.to = memory(packed, engine_, nullptr);
      reorder.primitive = dnnl::reorder(reorder.from, reorder.to);
    }
    return it->second;
  }

  Product& ProductOf(int64_t rows, Form a_form) {
    auto [it, is_new] = products_.try_emplace({rows, n_, terms_, a_form});
    if (is_new) {
      Product& product = it->second;
      product.a = memory(Layout(rows, terms_, a_form), engine_, nullptr);
      product.c = memory(Sums(rows), engine_, nullptr);
      const dnnl::matmul::desc desc(product.a.get_desc(), b_packed_.get_desc(), product.c.get_desc());
      product.primitive = dnnl::matmul({desc, engine_});
    }
    return it->second;
  }

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  std::map<std::tuple<int64_t, int64_t, Form>, Reorder> reorders_;
  std::map<std::tuple<int64_t, int64_t, int64_t, Form>, Product> products_;
  std::vector<bf16> a_block_ = std::vector<bf16>(kBlockRows * kBlockTerms);
  std::vector<bf16> b_block_ = std::vector<bf16>(kTileCols * kBlockTerms);
  std::vector<bf16> b_packed_buffer_ =
      std::vector<bf16>(2 * kTileCols * kBlockTerms);  // oneDNN fills up n and k
  std::vector<float> sums_ = std::vector<float>(kBlockRows * kTileCols);
  memory b_packed_;
  int64_t n_ = 0, terms_ = 0;  // of the packed B
};

// c = sums or c + sums, rounded once.
template <typename Out>
void WriteOut(const float* sums, int64_t sums_pitch, int64_t rows, int64_t cols, WriteMode mode, Out* c,
              int64_t pitch) {
  for (int64_t i = 0; i < rows; ++i, sums += sums_pitch, c += pitch) {
    if (mode == WriteMode::kAdd) {
#pragma omp simd
      for (int64_t j = 0; j < cols; ++j) c[j] = Out(static_cast<float>(c[j]) + sums[j]);
    } else {
#pragma omp simd
      for (int64_t j = 0; j < cols; ++j) c[j] = Out(sums[j]);
    }
  }
}

// One block of rows with the packed terms [begin, begin + terms). Sums over several blocks of terms wait in
// `state`.
void RunBlock(Worker& worker, const GemmDesc& desc, Range rows, Range cols, int64_t begin, int64_t terms,
              float* state) {
  const int64_t m = rows.size(), n = cols.size();
  const bool first = begin == 0, last = begin + terms >= desc.k();
  const float* sums = worker.Multiply(desc, rows.begin, m, begin, terms);
  int64_t pitch = n;
  if (!(first && last)) {
    WriteOut(sums, pitch, m, n, first ? WriteMode::kOverwrite : WriteMode::kAdd, state, kTileCols);
    sums = state;
    pitch = kTileCols;
  }
  if (!last) return;
  const int64_t c_begin = rows.begin * desc.c.pitch + cols.begin;
  if (desc.c.dtype == DType::kF32) {
    WriteOut(sums, pitch, m, n, desc.mode, desc.c.as<float>() + c_begin, desc.c.pitch);
  } else {
    WriteOut(sums, pitch, m, n, desc.mode, desc.c.as<bf16>() + c_begin, desc.c.pitch);
  }
}

void MultiplyTile(const GemmTile& tile, float* state_begin) {
  const OneThread one_thread;
  Worker& worker = Worker::OfThisThread();
  const int64_t k = tile.descs.front().k();
  for (int64_t l = 0; l < k; l += kBlockTerms) {
    const int64_t terms = std::min(kBlockTerms, k - l);
    worker.PackB(tile.descs.front(), tile.cols, l, terms);
    float* state = state_begin;
    ForEachProduct(tile, [&](const GemmDesc& desc, Range rows) {
      for (int64_t row = rows.begin; row < rows.end; row += kBlockRows) {
        const Range block{row, std::min(row + kBlockRows, rows.end)};
        RunBlock(worker, desc, block, tile.cols, l, terms, state);
        state += block.size() * kTileCols;
      }
    });
  }
}

bool HasAmx() { return dnnl::get_effective_cpu_isa() == dnnl::cpu_isa::avx512_core_amx; }

std::string Refusal(DType in) {
  if (in != DType::kBF16) return "its operands are BF16";
  if (HasAmx() || dnnl::get_effective_cpu_isa() == dnnl::cpu_isa::avx512_core_bf16) return "";
  return "oneDNN finds no BF16 instructions on this CPU";
}

}  // namespace

void RunOneDnnTile(const GemmTile& tile, const GemmScratch& scratch) {
  if (tile.descs.front().k() == 0) return BestTileKernel()->ascending(tile, scratch);  // zeros
  try {
    MultiplyTile(tile, scratch.state);
  } catch (const dnnl::error& error) {
    JEVONS_CHECK(false, "oneDNN: %s", error.what());
  }
}

const GemmImpl kGemmOneDnn = {
    .name = "onednn",
    .describe = [](DType) { return std::string(HasAmx() ? "onednn amx" : "onednn avx512_bf16"); },
    .refusal = Refusal,
    .demerit =
        [](DType) { return std::string(HasAmx() ? "" : "without AMX the CPU's own kernels are as fast"); },
    .run = [](std::span<const GemmDesc> descs) { RunTiles(descs, RunOneDnnTile); },
};

}  // namespace jevons::cpu
