#include "kernels/ref/quantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <sstream>
#include <vector>

#include "tests/kernels/fp8/quantized.h"
#include "tests/support/paths.h"

namespace jevons {
namespace {

TEST(Quantize, TablesAgreeBitByBit) {
  for (const Case& test : kCases) {
    for (DType dtype : {DType::kF32, DType::kBF16}) {
      Guarded x(dtype, test.rows, test.cols);
      Scatter(x, static_cast<uint64_t>(test.rows * 1000 + test.cols), test.hostile);
      for (NumberFormat format : {NumberFormat::kE4M3, NumberFormat::kE5M2, NumberFormat::kE5M6}) {
        for (Tiling tiling : {Tiling::kRows1x128, Tiling::kBlocks128x128, Tiling::kColumns128x1}) {
          if (format == NumberFormat::kE5M6 && tiling != Tiling::kRows1x128) continue;
          for (ScaleKind kind : {ScaleKind::kFp32, ScaleKind::kPowerOfTwo}) {
            SCOPED_TRACE(testing::Message() << x.tensor.ToString() << " format " << int(format) << " tiling " << int(tiling));
            ExpectSameEverywhere([&] { return RunQuantize(x.tensor, tiling, kind, format); });
          }
        }
      }
    }
  }
}

// Large outputs are written past the caches, in whole lines: as long as a column is a number of them.
TEST(Quantize, TablesAgreeOnLargeTransposes) {
  constexpr int64_t kRows = 4096 + 128, kCols = 4096 + 1;
  std::vector<bf16> x(kRows * kCols);
  for (size_t i = 0; i < x.size(); ++i) x[i].bits = static_cast<uint16_t>(0x3000 + i * 40503 % 0x1000);
  Arena arena("test", int64_t{64} << 20);
  const auto run = [&](const OpTable& table) {
    TableScope scope(table, 2);
    const Tensor codes = arena.Allocate("codes", DType::kU8, CodesShape(kRows, kCols, Tiling::kColumns128x1));
    Quantized q{{}, std::vector<float>(TilesOf(kRows) * kCols), {}};
    Quantize(TestContext(), {.x = Tensor::Of(x.data(), {kRows, kCols}),
                             .codes = codes,
                             .scales = Tensor::Of(q.scales.data(), ScalesShape(kRows, kCols, Tiling::kColumns128x1)),
                             .tiling = Tiling::kColumns128x1});
    q.codes.assign(codes.as<uint8_t>(), codes.as<uint8_t>() + codes.size());
    return q;
  };
  ExpectSame(run(kCpuOps), run(kRefOps));
}

// Every code of E5M6, at every place of a group of eight.
TEST(Dequantize, EveryE5M6Code) {
  constexpr int64_t kCols = 4096 + 8;
  Quantized q{std::vector<uint8_t>(PackedE5M6Bytes(kCols) * 8), std::vector<float>(8 * TilesOf(kCols), 1.5f), {}};
  for (int64_t r = 0; r < 8; ++r) {
    for (int64_t c = 0; c < kCols; c += 8) {
      uint16_t codes[8];
      for (int64_t i = 0; i < 8; ++i) codes[i] = static_cast<uint16_t>((c + i + r) % 4096);
      PackE5M6(codes, &q.codes[static_cast<size_t>(r * PackedE5M6Bytes(kCols) + c / 8 * 12)]);
    }
  }
  ExpectSameEverywhere([&] { return Quantized{{}, RunDequantize(q, 8, kCols, Tiling::kRows1x128, NumberFormat::kE5M6), {}}; });
}

TEST(Quantize, CountingChangesNothing) {
  Guarded x(DType::kF32, 150, 200);
  Scatter(x, 5, true);
  for (Tiling tiling : {Tiling::kRows1x128, Tiling::kBlocks128x128, Tiling::kColumns128x1}) {
    const auto run = [&](bool count) { return RunQuantize(x.tensor, tiling, ScaleKind::kFp32, NumberFormat::kE4M3, count); };
    ExpectSame(run(true), run(false), /*stats=*/false);
  }
}

TEST(Dequantize, TablesAgreeBitByBit) {
  for (const Case& test : kCases) {
    Guarded x(DType::kF32, test.rows, test.cols);
    Scatter(x, 11, test.hostile);
    for (NumberFormat format : {NumberFormat::kE4M3, NumberFormat::kE5M2, NumberFormat::kE5M6}) {
      for (Tiling tiling : {Tiling::kRows1x128, Tiling::kBlocks128x128}) {
        if (format == NumberFormat::kE5M6 && tiling != Tiling::kRows1x128) continue;
        const Quantized q = RunQuantize(x.tensor, tiling, ScaleKind::kFp32, format);
        for (DType dtype : {DType::kF32, DType::kBF16}) {
          ExpectSameEverywhere([&] { return Quantized{{}, RunDequantize(q, test.rows, test.cols, tiling, format, dtype), {}}; });
        }
      }
    }
  }
}

// Every code of a matrix that holds all 256 of them, NaN and infinity included.
TEST(Dequantize, EveryCode) {
  Quantized q{std::vector<uint8_t>(256), {0.5f, 3.0f}, {}};
  for (size_t i = 0; i < 256; ++i) q.codes[i] = static_cast<uint8_t>(i);
  for (NumberFormat format : {NumberFormat::kE4M3, NumberFormat::kE5M2}) {
    ExpectSameEverywhere([&] { return Quantized{{}, RunDequantize(q, 1, 256, Tiling::kRows1x128, format), {}}; });
  }
  const std::vector<float> values = RunDequantize(q, 1, 256, Tiling::kRows1x128, NumberFormat::kE4M3);
  EXPECT_EQ(values[0x7E], 224.0f);    // 448 * 0.5
  EXPECT_EQ(values[0xFE], -1344.0f);  // -448 * 3
}

TEST(Quantize, PublishedRecipeOnGoldenTiles) {
  constexpr int64_t kRows = 2, kCols = 150;
  std::ifstream file(SourcePath("tests/golden/fp8/tiles.txt"));
  int tiles = 0;
  for (std::string line; std::getline(file, line);) {
    if (line[0] == '#') continue;
    std::istringstream words(line);
    int64_t power_of_two = 0, row = 0, col = 0;
    uint32_t scale = 0;
    words >> power_of_two >> row >> col >> std::hex >> scale;
    std::vector<float> x;
    std::vector<uint8_t> codes;
    char colon;
    for (uint32_t bits, code; words >> bits >> colon >> code;) {
      x.push_back(std::bit_cast<float>(bits));
      codes.push_back(static_cast<uint8_t>(code));
    }
    ASSERT_EQ(static_cast<int64_t>(x.size()), std::min(kTileSize, kCols - col)) << row;
    const Tensor tile = Tensor::Of(x.data(), {1, static_cast<int64_t>(x.size())});
    const ScaleKind kind = power_of_two ? ScaleKind::kPowerOfTwo : ScaleKind::kFp32;
    const Quantized q = RunQuantize(tile, Tiling::kRows1x128, kind, NumberFormat::kE4M3);
    EXPECT_EQ(std::bit_cast<uint32_t>(q.scales[0]), scale);
    EXPECT_EQ(q.codes, codes);
    ++tiles;
  }
  EXPECT_EQ(tiles, 2 * kRows * 2);
}

TEST(Scale, FloorAndRounding) {
  EXPECT_EQ(ScaleOf<E4M3>(448, ScaleKind::kFp32), 1.0f);
  EXPECT_EQ(ScaleOf<E4M3>(3, ScaleKind::kFp32), 3.0f / 448);
  EXPECT_EQ(ScaleOf<E4M3>(0, ScaleKind::kFp32), 1e-4f / 448);
  EXPECT_EQ(ScaleOf<E5M6>(1, ScaleKind::kFp32), 1.0f / 65024);
  EXPECT_EQ(ScaleOf<E4M3>(448, ScaleKind::kPowerOfTwo), 1.0f);  // a power of two stays
  EXPECT_EQ(ScaleOf<E4M3>(std::nextafter(448.0f, 449.0f), ScaleKind::kPowerOfTwo), 2.0f);
  EXPECT_EQ(ScaleOf<E4M3>(447, ScaleKind::kPowerOfTwo), 1.0f);
  EXPECT_EQ(ScaleOf<E4M3>(0, ScaleKind::kPowerOfTwo), 0x1p-22f);  // 1e-4 / 448 = 2.2e-7, upward
  for (ScaleKind kind : {ScaleKind::kFp32, ScaleKind::kPowerOfTwo}) {
    for (float amax : {0.0f, 1e-45f, 1.0f, 3.4028234e38f}) {
      const float scale = ScaleOf<E4M3>(amax, kind), inverse = 1 / scale;
      EXPECT_TRUE(std::isnormal(scale) && std::isnormal(inverse)) << amax;
      EXPECT_LE(amax * inverse, 448.001f) << amax;
    }
  }
}

TEST(Quantize, ZerosNanAndInfinity) {
  std::vector<float> x(300, 0.0f);
  x[5] = -0.0f;
  x[128] = 2, x[129] = NAN, x[130] = -kInf, x[131] = -1;  // the second tile; the third has nothing finite
  std::fill(x.begin() + 256, x.end(), kInf);
  const Quantized q = RunQuantize(Tensor::Of(x.data(), {1, 300}), Tiling::kRows1x128, ScaleKind::kFp32, NumberFormat::kE4M3);
  EXPECT_EQ(q.scales, (std::vector<float>{1e-4f / 448, 2.0f / 448, 1e-4f / 448}));
  EXPECT_EQ(q.codes[0], 0x00);
  EXPECT_EQ(q.codes[5], 0x80);
  EXPECT_EQ(q.codes[128], 0x7E);
  EXPECT_EQ(q.codes[129], 0x7F);
  EXPECT_EQ(q.codes[130], 0x7F);
  EXPECT_EQ(q.codes[131], Encode<E4M3>(-224.0f));
  EXPECT_EQ(q.codes[299], 0x7F);
  EXPECT_TRUE(q.stats == (QuantStats{.elements = 300, .saturated = 0, .underflowed = 0, .nonfinite = 46}));
}

TEST(Quantize, CountsWhatIsLost) {
  std::vector<float> x(256, 0.0f);
  x[0] = 448;                             // scale 1
  x[1] = 0x1p-10f;                        // a tie, to even: zero
  x[2] = std::nextafter(0x1p-10f, 1.0f);  // the smallest subnormal number
  x[3] = -1e-40f;
  x[200] = 1e-30f;  // alone in its tile: the floor of amax leaves it nothing
  const Quantized q = RunQuantize(Tensor::Of(x.data(), {1, 256}), Tiling::kRows1x128, ScaleKind::kFp32, NumberFormat::kE4M3);
  EXPECT_TRUE(q.stats == (QuantStats{.elements = 256, .saturated = 0, .underflowed = 3, .nonfinite = 0}));
  EXPECT_EQ(q.codes[2], 0x01);
  QuantStats stats;  // with a scale that is too small
  EXPECT_EQ(ref::QuantizeOne<E4M3>(-464, 1, stats), 0xFE);
  EXPECT_EQ(stats.saturated, 0);
  EXPECT_EQ(ref::QuantizeOne<E4M3>(-465, 1, stats), 0xFE);
  EXPECT_EQ(stats.saturated, 1);
}

// |x - value| is at most half a step: 2^-4 of x for E4M3's three bits (2^-3, 2^-7 for the others), or half the smallest number.
TEST(Quantize, RoundTripErrorIsHalfAStep) {
  constexpr int64_t kRows = 140, kCols = 270;
  Guarded x(DType::kF32, kRows, kCols);
  Scatter(x, 21, false);
  const std::vector<float> original = x.Values();
  const auto check = [&](NumberFormat format, Tiling tiling, ScaleKind kind, double relative, double smallest) {
    const Quantized q = RunQuantize(x.tensor, tiling, kind, format);
    const std::vector<float> back = RunDequantize(q, kRows, kCols, tiling, format);
    const int64_t height = tiling == Tiling::kRows1x128 ? 1 : 128;
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t c = 0; c < kCols; ++c) {
        const auto i = static_cast<size_t>(r * kCols + c);
        const double scale = q.scales[static_cast<size_t>(r / height * TilesOf(kCols) + c / 128)];
        const double limit = std::max(relative * std::abs(double{original[i]}), smallest / 2 * scale);
        ASSERT_LE(std::abs(double{original[i]} - double{back[i]}), limit * 1.000001) << r << " " << c;
      }
    }
  };
  for (ScaleKind kind : {ScaleKind::kFp32, ScaleKind::kPowerOfTwo}) {
    for (Tiling tiling : {Tiling::kRows1x128, Tiling::kBlocks128x128}) {
      check(NumberFormat::kE4M3, tiling, kind, 0x1p-4, 0x1p-9);
      check(NumberFormat::kE5M2, tiling, kind, 0x1p-3, 0x1p-16);
    }
    check(NumberFormat::kE5M6, Tiling::kRows1x128, kind, 0x1p-7, 0x1p-20);
  }
}

TEST(Quantize, ColumnsAreTheRowsOfTheTranspose) {
  constexpr int64_t kRows = 150, kCols = 200;
  Guarded x(DType::kBF16, kRows, kCols), transposed(DType::kBF16, kCols, kRows);
  Scatter(x, 31, true);
  for (int64_t r = 0; r < kRows; ++r)
    for (int64_t c = 0; c < kCols; ++c) transposed.tensor.row<bf16>(c)[r] = x.tensor.row<bf16>(r)[c];
  const Quantized by_columns = RunQuantize(x.tensor, Tiling::kColumns128x1, ScaleKind::kFp32, NumberFormat::kE4M3);
  const Quantized by_rows = RunQuantize(transposed.tensor, Tiling::kRows1x128, ScaleKind::kFp32, NumberFormat::kE4M3);
  EXPECT_TRUE(by_columns.codes == by_rows.codes);
  EXPECT_TRUE(by_columns.stats == by_rows.stats);
  for (size_t i = 0; i < 2; ++i)  // [L(R), C] there, [C, L(R)] here
    for (size_t c = 0; c < kCols; ++c) ASSERT_EQ(by_columns.scales[i * kCols + c], by_rows.scales[c * 2 + i]);
}

TEST(Quantize, EmptyMatrices) {
  for (Tiling tiling : {Tiling::kRows1x128, Tiling::kBlocks128x128, Tiling::kColumns128x1}) {
    for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{0, 128}, {128, 0}, {0, 0}}) {
      Guarded x(DType::kF32, rows, cols);
      const Quantized q = RunQuantize(x.tensor, tiling, ScaleKind::kFp32, NumberFormat::kE4M3);
      EXPECT_TRUE(q.codes.empty() && q.stats.elements == 0);
    }
  }
}

TEST(QuantizeDeathTest, WrongOperandsAreNamed) {
  Guarded x(DType::kF32, 4, 256), codes(DType::kU8, 4, 256), scales(DType::kF32, 4, 2), one(DType::kF32, 1, 2);
  const OpContext ctx = TestContext();
  EXPECT_DEATH(Quantize(ctx, {.x = x.tensor, .codes = codes.tensor, .scales = one.tensor}), "scales .* must be \\[4, 2\\]");
  EXPECT_DEATH(Quantize(ctx, {.x = x.tensor, .codes = x.tensor, .scales = scales.tensor}), "codes .* must be U8");
  EXPECT_DEATH(Quantize(ctx, {.x = codes.tensor, .codes = codes.tensor, .scales = scales.tensor}), "x .* must be F32 or BF16");
  EXPECT_DEATH(Quantize(ctx, {.x = x.tensor,
                              .codes = codes.tensor,
                              .scales = one.tensor,
                              .tiling = Tiling::kBlocks128x128,
                              .format = NumberFormat::kE5M6}),
               "E5M6 has 1x128 tiles");
}

}  // namespace
}  // namespace jevons
