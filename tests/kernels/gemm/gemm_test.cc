// The numbers that Gemm and GroupedGemm compute: every implementation, instruction set, form, mode and type.
#include "kernels/ops/gemm.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <array>
#include <complex>
#include <limits>

#include "kernels/ref/gemm.h"
#include "tests/kernels/gemm/gemm_case.h"

namespace jevons {
namespace {

constexpr Form kForms[] = {Form::kPlain, Form::kTransposed};
constexpr WriteMode kModes[] = {WriteMode::kOverwrite, WriteMode::kAdd};
constexpr DType kTypes[] = {DType::kF32, DType::kBF16};

void CheckCase(const GemmCase& t) {
  const Product fresh(t);
  const Matrix ascending = ExpectedC(fresh, Order::kAscending);
  Product by_ref(t);
  const GemmDesc ref_desc = by_ref.desc();
  cpu::kGemmRef.run({&ref_desc, 1});
  ASSERT_TRUE(by_ref.c == ascending) << "ref: " << ref_desc.ToString();
  for (const Variant& variant : VariantsFor(t.in)) {
    const Forced forced(variant);
    Product p(t);
    Gemm(OpContext{}, p.desc());
    SCOPED_TRACE(GemmImplementation(t.in) + ": " + p.desc().ToString());
    const Order order = OrderOf(variant.impl);
    ASSERT_TRUE(p.c == (order == Order::kAscending ? ascending : ExpectedC(fresh, order)));
  }
}

TEST(GemmTest, EveryFormModeAndTypeHasTheBitsOfTheDefinition) {
  constexpr std::array<int64_t, 3> kShapes[] = {{1, 1, 1},  {7, 64, 16},   {13, 67, 31}, {49, 131, 33}, {12, 300, 17},
                                                {97, 5, 8}, {2, 17, 1100}, {0, 5, 5},    {5, 0, 5},     {5, 5, 0}};
  for (const Form a_form : kForms) {
    for (const Form b_form : kForms) {
      for (const WriteMode mode : kModes) {
        for (const DType in : kTypes) {
          for (const DType out : kTypes) {
            for (const auto& [m, n, k] : kShapes) {
              CheckCase({m, n, k, a_form, b_form, mode, in, out});
              if (HasFatalFailure()) return;
            }
          }
        }
      }
    }
  }
}

TEST(GemmTest, DenseAndUnevenPitchesAgree) {
  for (const int64_t pad : {0, 1, 2, 8}) {
    CheckCase({.m = 20, .n = 70, .k = 34, .in = DType::kBF16, .pad = pad});
    CheckCase({.m = 20, .n = 70, .k = 34, .b_form = Form::kTransposed, .pad = pad});
  }
}

TEST(GemmTest, LongSumsContinueFromSlabToSlab) {
  for (const DType in : kTypes) {
    for (const WriteMode mode : kModes) {
      for (const DType out : kTypes) {
        CheckCase({3, 21, 2600, Form::kPlain, Form::kTransposed, mode, in, out});
        CheckCase({21, 3, 2049, Form::kTransposed, Form::kPlain, mode, in, out});
      }
    }
  }
}

TEST(GemmTest, ManyRowsAndColumnsAreCutIntoRectangles) {
  CheckCase({1100, 17, 5, Form::kPlain, Form::kTransposed, WriteMode::kAdd});
  CheckCase({9, 1031, 6, Form::kTransposed, Form::kPlain, WriteMode::kOverwrite, DType::kBF16, DType::kBF16});
  CheckCase({1030, 3, 1030, Form::kPlain, Form::kTransposed, WriteMode::kAdd, DType::kF32, DType::kBF16});
}

// A row must not feel how many others there are: forward passes join the segments of several micro-batches.
TEST(GemmTest, ARowDoesNotDependOnTheNumberOfRows) {
  for (const DType in : kTypes) {
    for (const Variant& variant : VariantsFor(in)) {
      const Forced forced(variant);
      for (const GemmCase t : {GemmCase{.m = 130, .n = 80, .k = 45, .b_form = Form::kTransposed, .in = in},
                               GemmCase{.m = 130, .n = 33, .k = 96, .in = in}}) {
        Product all(t);
        Gemm(OpContext{}, all.desc());
        for (int64_t m = 1; m < t.m; ++m) {
          Product some(t);
          GemmDesc desc = some.desc();
          desc.a = desc.a.Rows(t.m - m, m);  // the last rows, so that they also change place
          desc.c = desc.c.Rows(t.m - m, m);
          Gemm(OpContext{}, desc);
          for (int64_t i = t.m - m; i < t.m; ++i) {
            for (int64_t j = 0; j < t.n; ++j) {
              ASSERT_EQ(some.c.Get(i, j), all.c.Get(i, j)) << GemmImplementation(in) << " m " << m << " row " << i;
            }
          }
        }
      }
    }
  }
}

TEST(GemmTest, ThreadsDoNotChangeBits) {
  const int threads = omp_get_max_threads();
  for (const DType in : kTypes) {
    for (const Variant& variant : VariantsFor(in)) {
      const Forced forced(variant);
      for (const GemmCase& t :
           {GemmCase{.m = 601, .n = 330, .k = 120, .b_form = Form::kTransposed, .in = in},
            GemmCase{.m = 130, .n = 260, .k = 1200, .a_form = Form::kTransposed, .mode = WriteMode::kAdd, .in = in},
            GemmCase{.m = 32, .n = 64, .k = 4096, .a_form = Form::kTransposed, .in = in}}) {
        omp_set_num_threads(1);
        Product alone(t);
        Gemm(OpContext{}, alone.desc());
        for (const int team : {2, 3}) {
          omp_set_num_threads(team);
          Product together(t);
          Gemm(OpContext{}, together.desc());
          EXPECT_TRUE(together.c == alone.c) << GemmImplementation(in) << " on " << team;
        }
      }
    }
  }
  omp_set_num_threads(threads);
}

TEST(GemmTest, EachThreadOfAParallelRegionGetsItsOwnProduct) {
  for (const DType in : kTypes) {
    for (const Variant& variant : VariantsFor(in)) {
      const Forced forced(variant);
      const GemmCase t{.m = 40, .n = 70, .k = 60, .b_form = Form::kTransposed, .in = in};
      std::vector<Product> alone, inside;
      for (uint64_t i = 0; i < 12; ++i) {
        alone.emplace_back(t, i);
        inside.emplace_back(t, i);
        Gemm(OpContext{}, alone.back().desc());
      }
#pragma omp parallel for num_threads(3) schedule(dynamic, 1)
      for (size_t i = 0; i < inside.size(); ++i) Gemm(OpContext{}, inside[i].desc());
      for (size_t i = 0; i < inside.size(); ++i) EXPECT_TRUE(inside[i].c == alone[i].c) << GemmImplementation(in) << i;
    }
  }
}

// Segments of experts: several with one weight matrix, none, one row, many; then other shapes and types.
TEST(GroupedGemmTest, EqualsItsProductsOneByOne) {
  const int threads = omp_get_max_threads();
  for (const DType in : kTypes) {
    for (const Variant& variant : VariantsFor(in)) {
      const Forced forced(variant);
      for (const int team : {1, 2}) {
        omp_set_num_threads(team);
        std::vector<Product> single, grouped;
        std::vector<GemmDesc> descs;
        uint64_t seed = 0;
        for (const int64_t m : {0, 1, 130, 7, 0, 64, 300, 5, 1100}) {
          const bool several_slabs = single.size() < 6;  // whose sums wait beside C
          const GemmCase t{.m = m,
                           .n = 272,
                           .k = several_slabs ? 1100 : 65,
                           .b_form = Form::kTransposed,
                           .mode = several_slabs ? WriteMode::kAdd : WriteMode::kOverwrite,
                           .in = in};
          single.emplace_back(t, ++seed);
          grouped.emplace_back(t, seed);
        }
        for (const int64_t k : {0, 3, 600}) {
          const GemmCase t{.m = 30, .n = 40, .k = k, .a_form = Form::kTransposed, .mode = WriteMode::kAdd, .in = in};
          single.emplace_back(t, ++seed);
          grouped.emplace_back(t, seed);
        }
        single.emplace_back(GemmCase{.m = 4, .n = 5, .k = 6}, ++seed);
        grouped.emplace_back(GemmCase{.m = 4, .n = 5, .k = 6}, seed);
        for (size_t i = 0; i < single.size(); ++i) {
          GemmDesc one = single[i].desc(), many = grouped[i].desc();
          if (i < 9) one.b = many.b = grouped[i / 3 * 3].b.view();  // three neighbours share their expert
          Gemm(OpContext{}, one);
          descs.push_back(many);
        }
        GroupedGemm(OpContext{}, descs);
        for (size_t i = 0; i < single.size(); ++i) {
          EXPECT_TRUE(grouped[i].c == single[i].c) << GemmImplementation(in) << " product " << i;
        }
      }
    }
  }
  omp_set_num_threads(threads);
  GroupedGemm(OpContext{}, {});
}

// Packing fills up with zeros, which must not meet an infinity.
TEST(GemmTest, InfinityAndNanStayInTheirRow) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (const DType in : kTypes) {
    for (const Variant& variant : VariantsFor(in)) {
      const Forced forced(variant);
      Product p({.m = 9, .n = 19, .k = 37, .b_form = Form::kTransposed, .in = in});
      p.a.Set(3, 36, kInf);
      p.a.Set(5, 0, std::nanf(""));
      for (int64_t j = 0; j < 19; ++j) p.b.Set(j, 36, 1.0f);
      Gemm(OpContext{}, p.desc());
      for (int64_t i = 0; i < 9; ++i) {
        for (int64_t j = 0; j < 19; ++j) {
          const float c = p.c.Get(i, j);
          EXPECT_TRUE(i == 3 ? c == kInf : i == 5 ? std::isnan(c) : std::isfinite(c)) << GemmImplementation(in) << i;
        }
      }
    }
  }
}

// Scratch that is filled up with zeros may hold what an earlier product left there.
TEST(GemmTest, NothingOfAnEarlierProductEnters) {
  for (const DType in : kTypes) {
    for (const Variant& variant : VariantsFor(in)) {
      const Forced forced(variant);
      for (const Form a_form : kForms) {
        for (const Form b_form : kForms) {
          Product earlier({.m = 31, .n = 31, .k = 1087, .a_form = a_form, .b_form = b_form, .in = in});
          earlier.a.Poison();
          earlier.b.Poison();
          Gemm(OpContext{}, earlier.desc());
          CheckCase({.m = 17, .n = 65, .k = 1057, .a_form = a_form, .b_form = b_form, .in = in});
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST(RefGemmTest, ComplexStepGivesTheDerivative) {
  using Complex = std::complex<double>;
  const std::vector<Complex> a = {{1, 0}, {2, 1e-30}}, b = {{5, 0}, {7, 0}};  // step in a[0,1]
  Complex c = {100, 0};
  ref::Gemm<Complex, Complex, Complex>(1, 1, 2, {a.data(), 2, Form::kPlain}, {b.data(), 2, Form::kTransposed}, WriteMode::kAdd,
                                       &c, 1);
  EXPECT_EQ(c.real(), 119);
  EXPECT_DOUBLE_EQ(c.imag() * 1e30, 7);
}

}  // namespace
}  // namespace jevons
