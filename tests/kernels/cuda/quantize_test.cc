// Quantisation on CUDA: the bytes and scales of the reference, whatever the input.
#include "kernels/ops/quantize.h"

#include "kernels/ops/fp8_weight.h"
#include "tests/kernels/cuda/cuda_test.h"

namespace jevons {
namespace {

// Normal numbers of widely different rows, with zeros; hostile ones are also tiny, huge, NaN and infinite.
void Scatter(DeviceCase::Matrix& x, uint64_t seed, bool hostile) {
  const double hostiles[] = {NAN, -NAN, INFINITY, -INFINITY, 3.4e38, -3.4e38, 1e-45, -1e-40, -0.0, 1e-4};
  for (int64_t r = 0; r < x.rows(); ++r) {
    for (int64_t c = 0; c < x.cols(); ++c) {
      const auto i = static_cast<uint64_t>(r * x.cols() + c);
      const uint64_t bits = RandomBits(seed, 1, i);
      const double size = std::ldexp(1.0, static_cast<int>(RandomBits(seed, 3, i % 97) % 24) - 16);
      double value = size * RandomNormal(seed, 2, i);
      if (bits % 13 == 0) value = 0;
      if (hostile && bits % 251 == 1) value = hostiles[(bits >> 32) % std::size(hostiles)];
      x.Set(r, c, value);
    }
  }
}

struct Size {
  int64_t rows, cols;
  bool hostile;
};
const Size kSizes[] = {{0, 8, false},     {1, 1, false},   {1, 7, true},     {3, 130, false},  {127, 128, true},
                       {128, 128, false}, {129, 65, true}, {200, 300, true}, {257, 64, false}, {64, 1, false}};

// Counters of a call, zero so far, in the case's memory.
DeviceCase::Matrix& MakeStats(DeviceCase& c) { return c.MakeVector(DType::kI64, std::vector<int64_t>(4, 0)); }
QuantStats* StatsIn(DeviceCase::Matrix& counters) { return static_cast<QuantStats*>(counters.tensor().data); }

void CompareQuantize(const Size& s, DType dtype, Tiling tiling, ScaleKind kind, NumberFormat format) {
  CompareWithReference(
      [&](DeviceCase& c) {
        auto& x = c.Make(dtype, s.rows, s.cols);
        Scatter(x, 5, s.hostile);
        const Shape code_shape = CodesShape(s.rows, s.cols, tiling, format), scale_shape = ScalesShape(s.rows, s.cols, tiling);
        auto& codes = c.Make(DType::kU8, code_shape[0], code_shape[1]);
        auto& scales = c.Make(DType::kF32, scale_shape[0], scale_shape[1]);
        auto& stats = MakeStats(c);
        QuantStats* counted = StatsIn(stats);
        Quantize(c.ctx(), {.x = x.tensor(),
                           .codes = codes.tensor(),
                           .scales = scales.tensor(),
                           .tiling = tiling,
                           .scale_kind = kind,
                           .format = format,
                           .stats = kind == ScaleKind::kFp32 ? counted : nullptr});
        c.Show("codes", codes);
        c.Show("scales", scales);
        c.Show("counts", stats);
        if (tiling == Tiling::kColumns128x1) return;
        auto& back = c.Make(dtype, s.rows, s.cols);
        Dequantize(c.ctx(),
                   {.codes = codes.tensor(), .scales = scales.tensor(), .x = back.tensor(), .tiling = tiling, .format = format});
        c.Show("dequantised", back);
      },
      {});
}

TEST_F(CudaTest, QuantizeHasTheBitsOfTheReference) {
  for (const Size& s : kSizes) {
    for (DType dtype : kRealTypes) {
      for (ScaleKind kind : {ScaleKind::kFp32, ScaleKind::kPowerOfTwo}) {
        for (NumberFormat format : {NumberFormat::kE4M3, NumberFormat::kE5M2})
          for (Tiling tiling : {Tiling::kRows1x128, Tiling::kBlocks128x128, Tiling::kColumns128x1})
            CompareQuantize(s, dtype, tiling, kind, format);
        CompareQuantize(s, dtype, Tiling::kRows1x128, kind, NumberFormat::kE5M6);
      }
    }
  }
}

TEST_F(CudaTest, RequantizeHasTheBitsOfTheReference) {
  for (const Size& s : kSizes) {
    for (ScaleKind kind : {ScaleKind::kFp32, ScaleKind::kPowerOfTwo}) {
      for (NumberFormat format : {NumberFormat::kE4M3, NumberFormat::kE5M2}) {
        CompareWithReference(
            [&](DeviceCase& c) {
              auto& x = c.Make(DType::kF32, s.rows, s.cols);
              Scatter(x, 6, s.hostile);
              auto &codes = c.Make(DType::kU8, s.rows, s.cols), &scales = c.Make(DType::kF32, s.rows, TilesOf(s.cols));
              auto &out_codes = c.Make(DType::kU8, s.cols, s.rows), &out_scales = c.Make(DType::kF32, TilesOf(s.rows), s.cols);
              Quantize(
                  c.ctx(),
                  {.x = x.tensor(), .codes = codes.tensor(), .scales = scales.tensor(), .scale_kind = kind, .format = format});
              auto& stats = MakeStats(c);
              const RequantizeDesc desc = {.codes = codes.tensor(),
                                           .scales = scales.tensor(),
                                           .out_codes = out_codes.tensor(),
                                           .out_scales = out_scales.tensor(),
                                           .scale_kind = kind,
                                           .format = format,
                                           .stats = StatsIn(stats)};
              RequantizeTransposed(c.ctx(), {&desc, 1});
              c.Show("codes", out_codes);
              c.Show("scales", out_scales);
              c.Show("counts", stats);
            },
            {});
      }
    }
  }
}

// All weights in one call, of both types: as they lie and turned.
TEST_F(CudaTest, WeightsHaveTheBitsOfTheReference) {
  for (const bool counted : {true, false}) {
    CompareWithReference(
        [&](DeviceCase& c) {
          std::vector<QuantizeWeightDesc> descs;
          std::vector<DeviceCase::Matrix*> outs;
          const auto operand = [&](int64_t rows, int64_t cols) {
            auto &codes = c.Make(DType::kU8, rows, cols), &scales = c.Make(DType::kF32, TilesOf(rows), TilesOf(cols));
            outs.insert(outs.end(), {&codes, &scales});
            return Fp8Operand{codes.tensor(), scales.tensor(), Tiling::kBlocks128x128};
          };
          for (const Size& s : kSizes)
            for (const DType dtype : kRealTypes) {
              auto& x = c.Make(dtype, s.rows, s.cols);
              Scatter(x, 7 + descs.size(), s.hostile);
              descs.push_back({x.tensor(), {.plain = operand(s.rows, s.cols), .turned = operand(s.cols, s.rows)}});
            }
          auto& stats = MakeStats(c);
          QuantStats* const counts = StatsIn(stats);
          QuantizeWeights(c.ctx(), descs, counted ? counts : nullptr);
          for (DeviceCase::Matrix* out : outs) c.Show("weight", *out);
          c.Show("counts", stats);
        },
        {});
  }
}

// The segments of a layer's experts in one call: cut from one matrix at any row, some empty, each with its own output, of either
// format and kind of scales; some are counted.
TEST_F(CudaTest, RequantizeOfManySegmentsHasTheBitsOfTheReference) {
  constexpr int64_t kCols = 200;
  const int64_t counts[] = {0, 1, 127, 0, 128, 129, 3, 1, 260, 0};
  CompareWithReference(
      [&](DeviceCase& c) {
        int64_t rows = 0;
        for (int64_t count : counts) rows += count;
        auto &x = c.Make(DType::kF32, rows, kCols), &stats = MakeStats(c);
        Scatter(x, 8, true);
        std::vector<DeviceCase::Matrix*> results;
        std::vector<RequantizeDesc> segments;
        for (NumberFormat format : {NumberFormat::kE4M3, NumberFormat::kE5M2}) {
          auto &codes = c.Make(DType::kU8, rows, kCols), &scales = c.Make(DType::kF32, rows, TilesOf(kCols));
          Quantize(c.ctx(), {.x = x.tensor(), .codes = codes.tensor(), .scales = scales.tensor(), .format = format});
          int64_t begin = 0;
          for (int64_t count : counts) {
            results.push_back(&c.Make(DType::kU8, kCols, count));
            results.push_back(&c.Make(DType::kF32, TilesOf(count), kCols));
            segments.push_back({.codes = codes.tensor().Rows(begin, count),
                                .scales = scales.tensor().Rows(begin, count),
                                .out_codes = results[results.size() - 2]->tensor(),
                                .out_scales = results.back()->tensor(),
                                .scale_kind = count % 2 == 0 ? ScaleKind::kFp32 : ScaleKind::kPowerOfTwo,
                                .format = format,
                                .stats = begin % 2 == 0 ? StatsIn(stats) : nullptr});
            begin += count;
          }
        }
        RequantizeTransposed(c.ctx(), {});
        RequantizeTransposed(c.ctx(), segments);
        for (DeviceCase::Matrix* result : results) c.Show("codes or scales", *result);
        c.Show("counts", stats);
      },
      {});
}

// The two operators in one have the bits of the two, one after the other on the same device.
TEST_F(CudaTest, SwiGluQuantizeHasTheBitsOfBoth) {
  for (const Size& s : kSizes) {
    for (DType dtype : kRealTypes) {
      for (bool weighted : {false, true}) {
        for (Addresses layout : {Addresses::kOdd, Addresses::kAligned}) {
          BeforeCudaRepeat(weighted ? 1 : 2);
          DeviceCase c(Device::kCuda, layout);
          auto &gate_up = c.Make(dtype, s.rows, 2 * s.cols), &y = c.Make(dtype, s.rows, s.cols);
          Scatter(gate_up, 7, s.hostile);
          const Tensor weight = weighted ? c.MakeVector(DType::kF32, s.rows).Fill(2).tensor() : Tensor();
          DeviceCase::Matrix *codes[2], *scales[2], *stats[2];
          for (int i = 0; i < 2; ++i) {
            codes[i] = &c.Make(DType::kU8, s.rows, s.cols);
            scales[i] = &c.Make(DType::kF32, s.rows, TilesOf(s.cols));
            stats[i] = &MakeStats(c);
          }
          SwiGlu(c.ctx(), gate_up.tensor(), weight, y.tensor());
          Quantize(c.ctx(),
                   {.x = y.tensor(), .codes = codes[0]->tensor(), .scales = scales[0]->tensor(), .stats = StatsIn(*stats[0])});
          SwiGluQuantize(c.ctx(), {.gate_up = gate_up.tensor(),
                                   .weight = weight,
                                   .codes = codes[1]->tensor(),
                                   .scales = scales[1]->tensor(),
                                   .stats = StatsIn(*stats[1])});
          for (int i = 0; i < 2; ++i) {
            c.Show("codes", *codes[i]);
            c.Show("scales", *scales[i]);
            c.Show("counts", *stats[i]);
          }
          for (size_t i = 0; i < 3; ++i)
            EXPECT_TRUE(SameValues(c.outputs()[i].values, c.outputs()[3 + i].values)) << c.outputs()[i].name;
        }
      }
    }
  }
}

// Every BF16 number and its neighbours meet the hardware's conversion, at a scale of one.
TEST_F(CudaTest, EveryConversionHasTheBitsOfTheReference) {
  for (NumberFormat format : {NumberFormat::kE4M3, NumberFormat::kE5M2}) {
    const float largest = format == NumberFormat::kE4M3 ? E4M3::kMax : E5M2::kMax;
    CompareWithReference(
        [&](DeviceCase& c) {
          constexpr int64_t kRows = 1024;
          auto& x = c.MakeContiguous(DType::kF32, kRows, kTileSize);
          for (int64_t r = 0; r < kRows; ++r) {
            for (int64_t i = 0; i < kTileSize; ++i) {
              const auto pattern = static_cast<uint32_t>(r * kTileSize + i);
              const uint32_t bits = (pattern & 0xFFFFu) << 16 | (pattern >> 16 ? 0x8001u : 0u);
              const float value = std::bit_cast<float>(bits);
              x.Set(r, i, i == 0 || !(std::fabs(value) <= largest) ? double{largest} : double{value});
            }
          }
          auto &codes = c.MakeContiguous(DType::kU8, kRows, kTileSize), &scales = c.MakeContiguous(DType::kF32, kRows, 1);
          Quantize(c.ctx(), {.x = x.tensor(), .codes = codes.tensor(), .scales = scales.tensor(), .format = format});
          c.Show("codes", codes);
          c.Show("scales", scales);
        },
        {});
  }
}

}  // namespace
}  // namespace jevons
