// Attention on CUDA, and what lies between its tensors and cuDNN's.
#include "kernels/cuda/attention.h"

#include "kernels/cuda/attention_layout.h"
#include "kernels/cuda/report.h"
#include "tests/kernels/cuda/cuda_test.h"

namespace jevons {
namespace {

struct Sizes {
  int64_t sequences, length, heads, nope, rope, value;
  bool documents = false;
  int64_t most_documents = 0, longest = 0;  // what the host says of them; 0: about what they are
  int64_t long_one = 0;                     // tokens of the very first document, before those of the usual length
};

constexpr int64_t kFirstDocuments = 37;  // tokens of a document of the first sequence; 50 more with each sequence

std::vector<int32_t> DocumentStarts(const Sizes& s) {
  std::vector<int32_t> start;
  for (int64_t n = 0; n < s.sequences; ++n)
    for (int64_t t = 0; t < s.length; ++t) {
      const int64_t usual = kFirstDocuments + 50 * n, first = n == 0 ? s.long_one : 0;
      start.push_back(static_cast<int32_t>(t < first ? 0 : first + (t - first) / usual * usual));
    }
  return start;
}

// Forward, then backward at what it gave.
void RunBoth(DeviceCase& c, DType dtype, const Sizes& s) {
  const int64_t rows = s.sequences * s.length;
  auto &q = c.Make(dtype, rows, s.heads * (s.nope + s.rope)).Fill(1, 1.5f),
       &kv = c.Make(dtype, rows, s.heads * (s.nope + s.value)).Fill(2), &k_rope = c.Make(dtype, rows, s.rope).Fill(3),
       &d_o = c.Make(dtype, rows, s.heads * s.value).Fill(4);
  auto &o = c.Make(dtype, rows, s.heads * s.value), &lse = c.Make(DType::kF32, rows, s.heads);
  auto &dq = c.Make(dtype, rows, q.cols()), &dkv = c.Make(dtype, rows, kv.cols()), &dk_rope = c.Make(dtype, rows, s.rope);
  const std::vector<int32_t> starts = DocumentStarts(s);
  const AttentionDesc desc{.heads = s.heads,
                           .nope_dim = s.nope,
                           .rope_dim = s.rope,
                           .value_dim = s.value,
                           .sequence_length = s.length,
                           .scale = 1 / std::sqrt(static_cast<float>(s.nope + s.rope)),
                           .q = q.tensor(),
                           .kv = kv.tensor(),
                           .k_rope = k_rope.tensor(),
                           .document_start = s.documents ? c.MakeVector(DType::kI32, starts).tensor().Reshape({rows}) : Tensor(),
                           .documents = !s.documents           ? 0
                                        : s.most_documents > 0 ? s.most_documents
                                                               : rows / kFirstDocuments + s.sequences,
                           .longest_document = !s.documents    ? 0
                                               : s.longest > 0 ? s.longest
                                                               : std::min(s.length, kFirstDocuments + 50 * s.sequences),
                           .o = o.tensor(),
                           .lse = lse.tensor()};
  Attention(c.ctx(), desc);
  AttentionBackward(c.ctx(), desc, {.d_o = d_o.tensor(), .dq = dq.tensor(), .dkv = dkv.tensor(), .dk_rope = dk_rope.tensor()});
  c.Show("o", o);
  c.Show("lse", lse);
  c.Show("dq", dq);
  c.Show("dkv", dkv);
  c.Show("dk_rope", dk_rope);
}

// BF16 outputs may round to either neighbour, and gradients start from an o so rounded.
Bound BoundOfAttention(DType dtype) {
  if (dtype == DType::kF32) return {.relative = 0, .of_largest = 2e-5, .absolute = 1e-6};
  return {.relative = 0x1p-7, .of_largest = 1e-2, .absolute = 1e-3};
}

class Plainly {
 public:
  Plainly() { cuda::LeaveOutCudnn(true); }
  ~Plainly() { cuda::LeaveOutCudnn(false); }
};

TEST_F(CudaTest, PlainAttention) {
  const Plainly plainly;
  const Sizes kSizes[] = {
      {0, 4, 2, 16, 8, 16},         // no rows
      {3, 1, 2, 16, 8, 16},         // sequences of one token
      {2, 5, 1, 1, 1, 1},           // tiny
      {1, 75, 2, 17, 6, 33, true},  // nothing is a multiple of anything
      {1, 64, 2, 8, 8, 16},         // whole tiles
      {2, 70, 1, 16, 8, 16, true}, {1, 33, 1, 16, 0, 100}, {1, 40, 2, 0, 10, 7},
  };
  for (const DType dtype : kRealTypes)
    for (const Sizes& sizes : kSizes)
      CompareWithReference([&](DeviceCase& c) { RunBoth(c, dtype, sizes); }, BoundOfAttention(dtype));
}

// All calls are cuDNN's, none falls back.
void CompareCudnn(const Sizes& sizes) {
  if (const std::string problem = cuda::CudnnProblem(); !problem.empty()) GTEST_SKIP() << problem;
  const cuda::Served before = cuda::ServedSoFar();
  CompareWithReference([&](DeviceCase& c) { RunBoth(c, DType::kBF16, sizes); }, BoundOfAttention(DType::kBF16),
                       {Addresses::kAligned});
  const cuda::Served now = cuda::ServedSoFar();
  EXPECT_EQ(now.cudnn - before.cudnn, 2 * CudaRepeats());
  EXPECT_EQ(now.fallbacks, before.fallbacks);
}

TEST_F(CudaTest, CudnnAttention) { CompareCudnn({2, 256, 2, 128, 64, 128}); }
TEST_F(CudaTest, CudnnAttentionOfDocuments) {
  CompareCudnn({2, 200, 3, 128, 64, 128, true});
  CompareCudnn({1, 512, 2, 64, 32, 64, true});
}
// 16,384 sequences, nearly all of length zero; scores of so many would fill memory, so there are two groups of heads.
TEST_F(CudaTest, CudnnAttentionOfEmptySequences) { CompareCudnn({1, 90, 4, 16, 8, 16, true, 10000}); }
// The same documents and no sequence of length zero: if this passes and the one before does not, cuDNN cannot do with empty ones.
TEST_F(CudaTest, CudnnAttentionOfExactDocuments) {
  cuda::CountDocumentsExactly(true);
  CompareCudnn({1, 111, 4, 16, 8, 16, true, 3});
  CompareCudnn({2, 200, 3, 128, 64, 128, true, 9});
  cuda::CountDocumentsExactly(false);
}
TEST_F(CudaTest, CudnnAttentionOfLongDocuments) { CompareCudnn({1, 4096, 2, 8, 8, 8, true, 0, 4096}); }
// In the backward the long one has a graph of its own.
TEST_F(CudaTest, CudnnAttentionOfOneLongDocument) { CompareCudnn({1, 1100, 2, 8, 8, 8, true, 256, 1100, 700}); }
TEST_F(CudaTest, AttentionAtOddAddressesFallsBack) {
  if (const std::string problem = cuda::CudnnProblem(); !problem.empty()) GTEST_SKIP() << problem;
  const cuda::Served before = cuda::ServedSoFar();
  CompareWithReference(
      [&](DeviceCase& c) {
        RunBoth(c, DType::kBF16, {1, 40, 2, 16, 8, 16});
      },
      BoundOfAttention(DType::kBF16), {Addresses::kOdd});
  EXPECT_EQ(cuda::ServedSoFar().fallbacks - before.fallbacks, 2 * CudaRepeats());
}

AttentionDesc LayoutDesc(DeviceCase& c, int64_t rows) {
  AttentionDesc desc;
  desc.heads = 5;
  desc.nope_dim = 16;
  desc.rope_dim = 8;
  desc.value_dim = 24;
  desc.sequence_length = rows;
  desc.q = c.Make(DType::kBF16, rows, 5 * 24).tensor();
  desc.kv = c.Make(DType::kBF16, rows, 5 * 40).Fill(1).tensor();
  desc.k_rope = c.Make(DType::kBF16, rows, 8).Fill(2).tensor();
  return desc;
}

TEST_F(CudaTest, KeysAreAssembled) {
  DeviceCase c(Device::kCuda, Addresses::kAligned), host(Device::kCpu, Addresses::kAligned);
  auto& keys = c.Make(DType::kBF16, 33, 2 * 24);
  cuda::AssembleKeys(c.ctx(), LayoutDesc(c, 33), {3, 2}, keys.tensor());
  keys.Fetch();
  const AttentionDesc same = LayoutDesc(host, 33);
  for (int64_t t = 0; t < 33; ++t)
    for (int64_t h = 0; h < 2; ++h)
      for (int64_t i = 0; i < 24; ++i)
        ASSERT_EQ(keys.Get(t, h * 24 + i),
                  double{i < 16 ? same.kv.row<bf16>(t)[(3 + h) * 40 + i] : same.k_rope.row<bf16>(t)[i - 16]});
}

TEST_F(CudaTest, KeyGradientsAreTakenApart) {
  DeviceCase c(Device::kCuda, Addresses::kAligned);
  const AttentionDesc desc = LayoutDesc(c, 33);
  auto &first = c.Make(DType::kBF16, 33, 3 * 24).Fill(3), &second = c.Make(DType::kBF16, 33, 2 * 24).Fill(4),
       &dkv = c.Make(DType::kBF16, 33, 5 * 40), &dk_rope = c.Make(DType::kBF16, 33, 8),
       &sums = c.MakeContiguous(DType::kF32, 33, 8);
  AttentionGrad grad;
  grad.dkv = dkv.tensor();
  grad.dk_rope = dk_rope.tensor();
  cuda::SplitKeyGrads(c.ctx(), desc, {0, 3}, first.tensor(), grad, sums.tensor());
  cuda::SplitKeyGrads(c.ctx(), desc, {3, 2}, second.tensor(), grad, sums.tensor());
  dkv.Fetch();
  dk_rope.Fetch();
  const auto d_key = [&](int64_t t, int64_t h, int64_t i) {
    return h < 3 ? first.Get(t, h * 24 + i) : second.Get(t, (h - 3) * 24 + i);
  };
  for (int64_t t = 0; t < 33; ++t) {
    for (int64_t h = 0; h < 5; ++h) {
      for (int64_t i = 0; i < 16; ++i) ASSERT_EQ(dkv.Get(t, h * 40 + i), d_key(t, h, i));
      for (int64_t i = 16; i < 40; ++i) ASSERT_TRUE(std::isnan(dkv.Get(t, h * 40 + i)));  // the values' part is not ours
    }
    for (int64_t i = 0; i < 8; ++i) {
      float sum = 0;
      for (int64_t h = 0; h < 5; ++h) sum += static_cast<float>(d_key(t, h, 16 + i));
      ASSERT_EQ(dk_rope.Get(t, i), double{bf16(sum)});
    }
  }
}

TEST_F(CudaTest, StatsGoHeadByHeadAndBack) {
  DeviceCase c(Device::kCuda, Addresses::kAligned);
  auto &lse = c.Make(DType::kF32, 60, 5).Fill(1), &back = c.Make(DType::kF32, 60, 5),
       &head_major = c.MakeVector(DType::kF32, 60 * 2);
  cuda::MoveStats(c.ctx(), lse.tensor().Columns(3, 2), 20, head_major.tensor(), cuda::StatsTo::kHeadMajor);
  cuda::MoveStats(c.ctx(), back.tensor().Columns(3, 2), 20, head_major.tensor(), cuda::StatsTo::kRows);
  head_major.Fetch();
  back.Fetch();
  for (int64_t t = 0; t < 60; ++t) {
    for (int64_t h = 0; h < 5; ++h) {
      if (h < 3) {
        ASSERT_TRUE(std::isnan(back.Get(t, h)));
        continue;
      }
      ASSERT_EQ(back.Get(t, h), lse.Get(t, h));
      ASSERT_EQ(head_major.Get(0, (t / 20 * 2 + h - 3) * 20 + t % 20), lse.Get(t, h));
    }
  }
}

TEST_F(CudaTest, DocumentsAreCounted) {
  const Sizes sizes = {3, 150, 1, 8, 8, 8, true};
  DeviceCase c(Device::kCuda, Addresses::kAligned);
  AttentionDesc desc = LayoutDesc(c, 450);
  desc.sequence_length = sizes.length;
  desc.longest_document = 137;
  desc.document_start = c.MakeVector(DType::kI32, DocumentStarts(sizes)).tensor().Reshape({450});
  // All of them, and those of some lengths.
  for (const auto& [above, longest] : {std::pair{0, 150}, {37, 150}, {37, 87}, {0, 37}, {1, 13}, {137, 150}}) {
    SCOPED_TRACE(testing::Message() << "longer than " << above << ", up to " << longest);
    auto &lengths = c.MakeVector(DType::kI32, 16), &offsets = c.MakeContiguous(DType::kI64, 2, 17);
    cuda::DocumentTable table;
    table.documents = 16;
    table.above = above;
    table.longest = longest;
    table.pitches[0] = 3;
    table.pitches[1] = 1000;
    table.count = 2;
    table.lengths = lengths.tensor().Reshape({16});
    table.offsets = offsets.tensor();
    cuda::FillDocuments(c.ctx(), desc, table);
    lengths.Fetch();
    offsets.Fetch();
    int64_t begin = 0, d = 0;
    const auto expect = [&](int64_t length) {
      EXPECT_EQ(offsets.Get(0, d), 3 * begin);
      EXPECT_EQ(offsets.Get(1, d), 1000 * begin);
      if (d < 16) {
        EXPECT_EQ(lengths.Get(0, d), length);
      }
      ++d;
    };
    for (const int64_t length : {37, 37, 37, 37, 2, 87, 63, 137, 13}) {
      if (length > above && length <= longest) expect(length);
      begin += length;
    }
    EXPECT_EQ(begin, 450);
    while (d <= 16) expect(0);
  }
}

}  // namespace
}  // namespace jevons
