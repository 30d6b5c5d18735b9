#include <gtest/gtest.h>

#include <cmath>
#include <deque>
#include <utility>
#include <vector>

#include "tests/kernels/fp8/quantized.h"

namespace jevons {
namespace {

TEST(Requantize, TablesAgreeBitByBit) {
  for (const Case& test : kCases) {
    Guarded x(DType::kF32, test.rows, test.cols);
    Scatter(x, 12, test.hostile);
    for (NumberFormat format : {NumberFormat::kE4M3, NumberFormat::kE5M2}) {
      for (ScaleKind kind : {ScaleKind::kFp32, ScaleKind::kPowerOfTwo}) {
        const Quantized q = RunQuantize(x.tensor, Tiling::kRows1x128, kind, format);
        ExpectSameEverywhere([&] { return RunRequantize(q, test.rows, test.cols, kind, format); });
      }
    }
  }
}

TEST(Requantize, IsDequantizeThenQuantize) {
  constexpr int64_t kRows = 150, kCols = 200;
  Guarded x(DType::kF32, kRows, kCols), middle(DType::kF32, kRows, kCols);
  Scatter(x, 41, true);
  for (ScaleKind kind : {ScaleKind::kFp32, ScaleKind::kPowerOfTwo}) {
    const Quantized q = RunQuantize(x.tensor, Tiling::kRows1x128, kind, NumberFormat::kE4M3);
    const std::vector<float> values = RunDequantize(q, kRows, kCols, Tiling::kRows1x128, NumberFormat::kE4M3);
    for (int64_t i = 0; i < kRows * kCols; ++i) middle.Set(i / kCols, i % kCols, values[static_cast<size_t>(i)]);
    ExpectSame(RunRequantize(q, kRows, kCols, kind, NumberFormat::kE4M3),
               RunQuantize(middle.tensor, Tiling::kColumns128x1, kind, NumberFormat::kE4M3));
  }
}

// The segments of a layer's experts, cut from one matrix; some are empty.
TEST(Requantize, ManySegmentsHaveTheBitsOfEach) {
  constexpr int64_t kRows = 300, kCols = 200;
  Guarded x(DType::kF32, kRows, kCols);
  Scatter(x, 42, true);
  const Quantized q = RunQuantize(x.tensor, Tiling::kRows1x128, ScaleKind::kFp32, NumberFormat::kE4M3);
  const auto part = [&](int64_t begin, int64_t count) {
    Quantized rows;
    const auto of = [&](const auto& values, int64_t width) {
      return std::vector(values.begin() + begin * width, values.begin() + (begin + count) * width);
    };
    rows.codes = of(q.codes, kCols), rows.scales = of(q.scales, TilesOf(kCols));
    return rows;
  };
  std::vector<std::pair<int64_t, int64_t>> segments = {{0, 0}, {0, 1}, {1, 127}, {128, 0}, {128, 172}, {300, 0}};
  for (const OpTable* table : {&kCpuOps, &kRefOps}) {
    TableScope scope(*table, 2);
    std::deque<Quantized> sources;
    std::deque<Buffers> out;
    std::deque<QuantStats> stats(segments.size());
    std::vector<RequantizeDesc> descs;
    for (const auto& [begin, count] : segments) {
      Quantized& rows = sources.emplace_back(part(begin, count));
      out.emplace_back(count, kCols, Tiling::kColumns128x1, NumberFormat::kE4M3);
      descs.push_back({.codes = CodesOf(rows, count, kCols, Tiling::kRows1x128, NumberFormat::kE4M3),
                       .scales = ScalesOf(rows, count, kCols, Tiling::kRows1x128),
                       .out_codes = out.back().codes.tensor,
                       .out_scales = out.back().scales.tensor,
                       .stats = &stats[descs.size()]});
    }
    RequantizeTransposed(TestContext(), descs);
    for (size_t i = 0; i < segments.size(); ++i)
      ExpectSame(out[i].Read(stats[i]),
                 RunRequantize(sources[i], segments[i].second, kCols, ScaleKind::kFp32, NumberFormat::kE4M3));
  }
  RequantizeTransposed(TestContext(), {});
}

// The report's reason for powers of two: turning 1x128 into 128x1 tiles changes no number, unless it becomes subnormal.
TEST(Requantize, PowersOfTwoLoseNothingAboveTheSubnormals) {
  constexpr int64_t kRows = 256, kCols = 128;
  Guarded x(DType::kF32, kRows, kCols);
  x.Fill(51);
  const auto changed = [&](ScaleKind kind) {
    const Quantized rows = RunQuantize(x.tensor, Tiling::kRows1x128, kind, NumberFormat::kE4M3);
    const std::vector<float> before = RunDequantize(rows, kRows, kCols, Tiling::kRows1x128, NumberFormat::kE4M3);
    const Quantized columns = RunRequantize(rows, kRows, kCols, kind, NumberFormat::kE4M3);
    int64_t count = 0;
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t c = 0; c < kCols; ++c) {
        const float scale = columns.scales[static_cast<size_t>(r / 128 * kCols + c)];
        const float after = Decode<E4M3>(columns.codes[static_cast<size_t>(c * kRows + r)]) * scale;
        const float value = before[static_cast<size_t>(r * kCols + c)];
        if (std::abs(value) >= scale * 0x1p-6f) count += after != value;
      }
    }
    return count;
  };
  EXPECT_EQ(changed(ScaleKind::kPowerOfTwo), 0);
  EXPECT_GT(changed(ScaleKind::kFp32), kRows * kCols / 10);
}

// A code of each row, at a scale 2^-k of the largest: all codes, all differences that matter and some beyond, with the row whose
// 448 fixes the columns' scales and alone.
TEST(Requantize, EveryCodeAtEveryDifferenceOfScales) {
  constexpr int64_t kCols = 256;
  for (NumberFormat format : {NumberFormat::kE4M3, NumberFormat::kE5M2}) {
    const int finite = format == NumberFormat::kE4M3 ? 0x7E : 0x7B;
    for (int k = 0; k <= 48; ++k) {
      for (int above : {finite, 1, 0}) {
        SCOPED_TRACE(testing::Message() << "format " << int(format) << " 2^-" << k << " under " << above);
        Quantized q{std::vector<uint8_t>(2 * kCols), {1, 1, std::ldexp(1.0f, -k), std::ldexp(1.0f, -k)}, {}};
        for (int64_t c = 0; c < kCols; ++c) {
          q.codes[static_cast<size_t>(c)] = static_cast<uint8_t>(above);
          if ((c & 0x7F) <= finite) q.codes[static_cast<size_t>(kCols + c)] = static_cast<uint8_t>(c);
        }
        ExpectSameEverywhere([&] { return RunRequantize(q, 2, kCols, ScaleKind::kPowerOfTwo, format); });
      }
    }
  }
}

// Panels whose rows lie within a few powers of two or far apart, rows of zeros with the smallest scale, scales that are no powers
// of two, tiny, huge or negative, codes of NaN and infinity.
Quantized AnyCodes(int64_t rows, int64_t cols, NumberFormat format, int kind) {
  const auto tiles = static_cast<size_t>(TilesOf(cols)), width = static_cast<size_t>(cols);
  const auto zero_row = [&](size_t r) { return kind == 2 && r % 5 == 3; };
  Quantized q{std::vector<uint8_t>(static_cast<size_t>(rows) * width), std::vector<float>(static_cast<size_t>(rows) * tiles), {}};
  const int largest = format == NumberFormat::kE4M3 ? E4M3::kMaxCode : E5M2::kMaxCode;
  for (size_t i = 0; i < q.codes.size(); ++i) {
    const auto code = static_cast<uint8_t>(RandomBits(7, 1, i));
    const bool finite = (code & 0x7F) <= largest;
    q.codes[i] = zero_row(i / width) || !(finite || kind == 5) ? code & 0x80 : code;
  }
  const uint64_t spread[] = {1, 13, 2, 40, 3, 2, 2, 2};
  for (size_t i = 0; i < q.scales.size(); ++i) {
    float& scale = q.scales[i];
    scale = std::ldexp(1.0f, -static_cast<int>(RandomBits(7, 2, i) % spread[kind]));
    if (zero_row(i / tiles)) scale = 0x1p-22f;
    if (kind == 4 && i % 200 == 9) scale = 0.75f;
    if (kind == 6) scale *= i / tiles % 2 == 0 ? 0x1p-130f : 0x1p-110f;
    if (kind == 7) scale *= i == 0 ? -1.0f : 0x1p110f;
  }
  return q;
}

TEST(Requantize, AnyCodesAndScales) {
  for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{130, 400}, {128, 128}, {77, 40}, {64, 257}}) {
    for (NumberFormat format : {NumberFormat::kE4M3, NumberFormat::kE5M2}) {
      for (int kind = 0; kind < 8; ++kind) {
        SCOPED_TRACE(testing::Message() << rows << " x " << cols << " kind " << kind << " format " << int(format));
        const Quantized q = AnyCodes(rows, cols, format, kind);
        ExpectSameEverywhere(
            [&, rows = rows, cols = cols] { return RunRequantize(q, rows, cols, ScaleKind::kPowerOfTwo, format); });
      }
    }
  }
}

}  // namespace
}  // namespace jevons
