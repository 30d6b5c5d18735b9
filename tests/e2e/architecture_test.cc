// Reads every source file and holds it against the rules of the house: who includes whom, and one definition per name.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "tests/support/include_rules.h"
#include "tests/support/one_definition.h"
#include "tests/support/paths.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;

bool Violates(const std::string& path, const std::string& line) { return !ArchitectureViolations(path, line).empty(); }

std::vector<SourceFile> SourceFilesIn(const std::vector<std::string>& folders, const std::set<std::string>& extensions) {
  std::vector<SourceFile> files;
  for (const std::string& folder : folders) {
    for (const auto& entry : fs::recursive_directory_iterator(SourcePath(folder))) {
      if (!extensions.count(entry.path().extension())) continue;
      std::stringstream text;
      text << std::ifstream(entry.path()).rdbuf();
      files.push_back({fs::relative(entry.path(), SourcePath("")), text.str()});
    }
  }
  EXPECT_GT(files.size(), 50u) << "the sources were not found under " << SourcePath("");
  return files;
}

TEST(Architecture, EverySourceFileKeepsTheRules) {
  std::vector<std::string> violations;
  for (const SourceFile& file :
       SourceFilesIn({"kernels", "configs", "data", "parallel", "trainer", "launch"}, {".h", ".cc", ".cu", ".cuh"})) {
    for (std::string& v : ArchitectureViolations(file.path, file.text)) violations.push_back(std::move(v));
  }
  EXPECT_TRUE(violations.empty()) << absl::StrJoin(violations, "\n");
}

TEST(Architecture, EveryNameIsDefinedOnce) {
  std::vector<SourceFile> files = SourceFilesIn({"kernels", "configs", "data", "parallel", "trainer", "launch", "tests"},
                                                {".h", ".cc", ".cu", ".cuh", ".proto"});
  // These stand in for files of kernels/cuda, in programs of their own.
  std::erase_if(files, [](const SourceFile& file) { return absl::StartsWith(file.path, "tests/support/cuda_on_host/"); });
  const std::vector<std::string> twice = NamesDefinedTwice(files);
  EXPECT_TRUE(twice.empty()) << absl::StrJoin(twice, "\n");
}

TEST(ArchitectureRules, FolderMayNotIncludeWhatIsAboveOrBesideIt) {
  EXPECT_TRUE(Violates("kernels/ops/gemm.cc", "#include \"parallel/mesh.h\""));
  EXPECT_TRUE(Violates("kernels/base/check.cc", "#include \"kernels/tensor/tensor.h\""));
  EXPECT_TRUE(Violates("kernels/ref/swiglu.h", "#include \"kernels/cpu/vector.h\""));
  EXPECT_TRUE(Violates("parallel/mesh.cc", "#include \"configs/run.pb.h\""));
  EXPECT_TRUE(Violates("parallel/ep/dispatcher.cc", "#include \"trainer/model/router.h\""));
  EXPECT_TRUE(Violates("data/loader.cc", "#include \"parallel/comm/communicator.h\""));
  EXPECT_TRUE(Violates("data/loader.cc", "#include \"kernels/tensor/tensor.h\""));
  EXPECT_TRUE(Violates("configs/load.cc", "#include \"data/loader.h\""));
  EXPECT_TRUE(Violates("trainer/run/train_loop.cc", "#include \"launch/cli.h\""));
  EXPECT_TRUE(Violates("trainer/step/planned_memory.cc", "#include \"kernels/cpu/attention.h\""));
}

TEST(ArchitectureRules, CallsWithinKernelsGoDown) {
  EXPECT_TRUE(Violates("kernels/tensor/tensor.h", "#include \"kernels/fp8/formats.h\""));
  EXPECT_TRUE(Violates("kernels/fp8/tiling.h", "#include \"kernels/ops/context.h\""));
  EXPECT_TRUE(Violates("kernels/ops/fp8_gemm.cc", "#include \"kernels/ref/fp8_gemm.h\""));
  EXPECT_TRUE(Violates("kernels/ops/gemm.cc", "#include \"kernels/cpu/gemm_impl.h\""));
  EXPECT_TRUE(Violates("kernels/ops/fp8_weight.cc", "#include \"kernels/cuda/quantize_columns.h\""));
  EXPECT_TRUE(Violates("kernels/ops/router.cc", "#include \"kernels/registry/registry.h\""));
  EXPECT_TRUE(Violates("kernels/ref/ref_ops.cc", "#include \"kernels/cpu/cpu_ops.h\""));
  EXPECT_TRUE(Violates("kernels/cpu/cpu_ops.cc", "#include \"kernels/cuda/cuda_ops.h\""));
  EXPECT_TRUE(Violates("kernels/cuda/counted.cc", "#include \"kernels/cpu/cpu_ops.h\""));
  EXPECT_TRUE(Violates("kernels/cuda/gemm.cc", "#include \"kernels/registry/registry.h\""));
  EXPECT_TRUE(Violates("parallel/zero/exchange.cc", "#include \"kernels/ref/ref_ops.h\""));
  EXPECT_TRUE(Violates("trainer/model/linear.cc", "#include \"kernels/registry/registry.h\""));
  EXPECT_FALSE(Violates("kernels/fp8/tiling.h", "#include \"kernels/tensor/tensor.h\""));
  EXPECT_FALSE(Violates("kernels/ops/quantize.h", "#include \"kernels/fp8/tiling.h\""));
  EXPECT_FALSE(Violates("kernels/ref/ref_ops.h", "#include \"kernels/ops/op_table.h\""));
  EXPECT_FALSE(Violates("kernels/cpu/adamw.cc", "#include \"kernels/ref/adamw.h\""));
  EXPECT_FALSE(Violates("kernels/cuda/router.cu", "#include \"kernels/ref/router.h\""));
  EXPECT_FALSE(Violates("kernels/registry/registry.cc", "#include \"kernels/cuda/cuda_ops.h\""));
  EXPECT_FALSE(Violates("trainer/model/linear.cc", "#include \"kernels/ops/fp8_gemm.h\""));
}

TEST(ArchitectureRules, CallsWithinTheTrainerGoDown) {
  EXPECT_TRUE(Violates("trainer/spec/params.cc", "#include \"trainer/model/weights.h\""));
  EXPECT_TRUE(Violates("trainer/files/safetensors.cc", "#include \"trainer/checkpoint/reader.h\""));
  EXPECT_TRUE(Violates("trainer/model/mla.cc", "#include \"trainer/step/train_step.h\""));
  EXPECT_TRUE(Violates("trainer/step/train_step.cc", "#include \"trainer/run/progress.h\""));
  EXPECT_TRUE(Violates("trainer/step/train_step.cc", "#include \"trainer/plan/planner.h\""));
  EXPECT_TRUE(Violates("trainer/run/score.cc", "#include \"trainer/interop/hf_folder.h\""));
  EXPECT_TRUE(Violates("trainer/model/linear.cc", "#include \"kernels/cuda/gemm.h\""));
  EXPECT_FALSE(Violates("trainer/plan/counted_search.cc", "#include \"trainer/step/planned_memory.h\""));
  EXPECT_FALSE(Violates("trainer/interop/import.cc", "#include \"trainer/run/run_inputs.h\""));
  EXPECT_FALSE(Violates("trainer/run/score.cc", "#include \"trainer/spec/hf_names.h\""));
}

TEST(ArchitectureRules, OurHeadersAreNamedFromTheRoot) {
  EXPECT_TRUE(Violates("data/loader.cc", "#include \"loader.h\""));
  EXPECT_TRUE(Violates("trainer/run/train_loop.cc", "#include <launch/cli.h>"));
  EXPECT_FALSE(Violates("data/loader.cc", "#include \"nlohmann/json.hpp\""));
}

TEST(ArchitectureRules, FolderMayIncludeWhatIsBelowIt) {
  EXPECT_FALSE(Violates("launch/train.cc", "#include \"trainer/run/train_loop.h\""));
  EXPECT_FALSE(Violates("trainer/run/train_loop.cc", "#include \"data/loader.h\""));
  EXPECT_FALSE(Violates("trainer/step/planned_memory.cc", "#include \"kernels/tensor/arena.h\""));
  EXPECT_FALSE(Violates("parallel/zero/exchange.cc", "#include \"kernels/tensor/tensor.h\""));
  EXPECT_FALSE(Violates("data/loader.cc", "#include \"kernels/base/status.h\""));
  EXPECT_FALSE(Violates("data/loader.cc", "#include \"absl/strings/string_view.h\""));
}

TEST(ArchitectureRules, VendorHeadersHaveOneHome) {
  EXPECT_TRUE(Violates("trainer/run/train_loop.cc", "#include <mpi.h>"));
  EXPECT_TRUE(Violates("parallel/ep/dispatcher.cc", "#include <mpi.h>"));
  EXPECT_TRUE(Violates("launch/doctor.cc", "# include <nccl.h>"));
  EXPECT_TRUE(Violates("parallel/comm/nccl.cc", "#include <cublasLt.h>"));
  EXPECT_TRUE(Violates("trainer/model/mla.cc", "#include <cuda_runtime.h>"));
  EXPECT_TRUE(Violates("data/loader.cc", "#include <google/protobuf/message.h>"));
  EXPECT_TRUE(Violates("trainer/run/train_loop.cc", "#include <CLI/CLI.hpp>"));
  EXPECT_FALSE(Violates("parallel/comm/mpi.cc", "#include <mpi.h>"));
  EXPECT_FALSE(Violates("kernels/cuda/gemm.cu", "#include <cublasLt.h>"));
}

TEST(ArchitectureRules, NoConditionalCompilationAboveKernels) {
  EXPECT_TRUE(Violates("trainer/step/train_step.cc", "#ifdef __CUDACC__"));
  EXPECT_TRUE(Violates("parallel/mesh.cc", "#if defined(JEVONS_CUDA)"));
  EXPECT_TRUE(Violates("launch/bench.cc", "  #ifndef NDEBUG"));
  EXPECT_FALSE(Violates("parallel/mesh.h", "#ifndef JEVONS_PARALLEL_MESH_H_"));
  EXPECT_FALSE(Violates("kernels/tensor/dtype.h", "#ifdef __CUDACC__"));
}

TEST(ArchitectureRules, MessageNamesFileLineAndRule) {
  const auto violations = ArchitectureViolations("data/a.h", "#include <vector>\n#include \"parallel/mesh.h\"\n");
  ASSERT_EQ(violations.size(), 1u);
  EXPECT_EQ(violations[0], "data/a.h:2: includes parallel/mesh.h; data/ may include data/, kernels/base/");
}

// What NamesDefinedTwice says of `a` in a.h and `b` in a file called `other`, both within namespace jevons.
std::vector<std::string> Twice(const std::string& a, const std::string& b, const std::string& other = "b.h") {
  return NamesDefinedTwice({{"a.h", "namespace jevons {\n" + a + "\n}\n"}, {other, "namespace jevons {\n" + b + "\n}\n"}});
}

TEST(OneDefinition, RefusesTwoOfAKind) {
  EXPECT_FALSE(Twice("struct A { int i = 0; };", "class A final : public B<int> {};").empty());
  EXPECT_FALSE(Twice("enum class A : int { kOne };", "struct alignas(64) A {};").empty());
  EXPECT_FALSE(Twice("struct [[nodiscard]] A {};", "union A {};").empty());
  EXPECT_FALSE(Twice("inline int F(int64_t bytes) { return 1; }", "constexpr int F(int64_t size = {}) { return 2; }").empty());
  EXPECT_FALSE(Twice("template <typename T> void F(const T& x) {}", "template <class U>\nvoid F(const U&) { G(); }").empty());
  EXPECT_FALSE(Twice("inline std::function<void(int)> F(std::map<int, A> m) { return {}; }",
                     "inline auto F(std::map<int, A>) -> int { return 1; }")
                   .empty());
  EXPECT_FALSE(Twice("inline bool operator==(A a, A b) { return true; }", "inline bool operator==(A, A) { return a; }").empty());
  EXPECT_FALSE(Twice("inline C::C(int i) : a_{i}, b_(i) {}", "inline C::C(int j) : b_{j} {}").empty());
  EXPECT_FALSE(Twice("template <> struct A<int> {};", "template <> struct A<int> { int i; };").empty());
  EXPECT_FALSE(Twice("inline constexpr int kA = 1;", "constexpr int64_t kA{2};").empty());
  EXPECT_FALSE(Twice("using A = int;", "struct A {};").empty());
  EXPECT_FALSE(Twice("inline int F() { return 1; }", "int F() { return 2; }", "b.cc").empty());
  EXPECT_FALSE(Twice("struct A {};", "struct A {};", "b.cc").empty());
  EXPECT_FALSE(NamesDefinedTwice({{"a.h", "namespace jevons { struct RunConfig {}; }"},
                                  {"b.proto", "package jevons;\nmessage RunConfig { int64 a = 1; }\n"}})
                   .empty());
}

TEST(OneDefinition, AllowsWhatTheRuleAllows) {
  EXPECT_TRUE(Twice("struct A {};", "struct A; A F(A a);").empty());
  EXPECT_TRUE(Twice("struct A {};", "namespace plan { struct A {}; }").empty());
  EXPECT_TRUE(Twice("struct A {};", "namespace { struct A {}; }", "b.cc").empty());
  EXPECT_TRUE(Twice("struct A {};", "struct B { struct A {}; };\nint G() { struct A {}; return 0; }", "b.cc").empty());
  EXPECT_TRUE(Twice("inline int F(int a) { return 1; }", "inline int F(float a) { return 2; }").empty());
  EXPECT_TRUE(Twice("inline int F(const A& a) { return 1; }", "inline int F(A&& a) { return 2; }").empty());
  EXPECT_TRUE(Twice("inline int F() { return 1; }", "int F();\nstatic int F() { return 2; }", "b.cc").empty());
  EXPECT_TRUE(Twice("template <> struct A<int> {};", "template <> struct A<float> {};").empty());
  EXPECT_TRUE(Twice("// struct A {};\n/* struct A {}; */\n#define X struct A {};", "struct A {};").empty());
  EXPECT_TRUE(Twice("inline const char* F() { return \"} struct A {\"; }", "struct A {};").empty());
  EXPECT_TRUE(Twice("inline int kA = 1;", "constexpr int kA = 2;", "b.cc").empty());
  // One of them is built; with both the link would fail.
  EXPECT_TRUE(NamesDefinedTwice({{"cuda.cc", "int F() { return 1; }"}, {"absent.cc", "int F() { return 0; }"}}).empty());
}

TEST(OneDefinition, MessageNamesBothPlaces) {
  EXPECT_EQ(Twice("\nstruct A {};", "inline int F(int a) { return 1; }\nstruct A {};"),
            std::vector<std::string>{"a.h:3 and b.h:3 define jevons::A"});
  EXPECT_EQ(Twice("namespace x {\ninline int F(int a, T<B, C>* = 0) { return 1; } }", "inline int x::F(int, T<B, C>* p) {}")[0],
            "a.h:3 and b.h:2 define jevons::x::F(int, T < B , C > *)");
}

}  // namespace
}  // namespace jevons
