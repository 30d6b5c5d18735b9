// Reads the preprocessor lines of every source file and holds them against the dependency direction of the
// house.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/str_join.h"
#include "tests/support/include_rules.h"
#include "tests/support/paths.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;

bool Violates(const std::string& path, const std::string& line) {
  return !ArchitectureViolations(path, line).empty();
}

TEST(Architecture, EverySourceFileKeepsTheRules) {
  std::vector<std::string> violations;
  int files = 0;
  for (const char* folder : {"kernels", "configs", "data", "parallel", "trainer", "launch"}) {
    for (const auto& entry : fs::recursive_directory_iterator(SourcePath(folder))) {
      const std::string extension = entry.path().extension();
      if (extension != ".h" && extension != ".cc" && extension != ".cu" && extension != ".cuh") continue;
      std::stringstream text;
      text << std::ifstream(entry.path()).rdbuf();
      const std::string path = fs::relative(entry.path(), SourcePath(""));
      for (std::string& v : ArchitectureViolations(path, text.str())) violations.push_back(std::move(v));
      ++files;
    }
  }
  EXPECT_GT(files, 50) << "the sources were not found under " << SourcePath("");
  EXPECT_TRUE(violations.empty()) << absl::StrJoin(violations, "\n");
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
  EXPECT_TRUE(Violates("trainer/train_loop.cc", "#include \"launch/cli.h\""));
  EXPECT_TRUE(Violates("trainer/plan/memory_model.cc", "#include \"kernels/cpu/attention.h\""));
}

TEST(ArchitectureRules, OurHeadersAreNamedFromTheRoot) {
  EXPECT_TRUE(Violates("data/loader.cc", "#include \"loader.h\""));
  EXPECT_TRUE(Violates("trainer/train_loop.cc", "#include <launch/cli.h>"));
  EXPECT_FALSE(Violates("data/loader.cc", "#include \"nlohmann/json.hpp\""));
}

TEST(ArchitectureRules, FolderMayIncludeWhatIsBelowIt) {
  EXPECT_FALSE(Violates("launch/train.cc", "#include \"trainer/train_loop.h\""));
  EXPECT_FALSE(Violates("trainer/train_loop.cc", "#include \"data/loader.h\""));
  EXPECT_FALSE(Violates("trainer/plan/memory_model.cc", "#include \"kernels/tensor/arena.h\""));
  EXPECT_FALSE(Violates("parallel/zero/exchange.cc", "#include \"kernels/tensor/tensor.h\""));
  EXPECT_FALSE(Violates("data/loader.cc", "#include \"kernels/base/status.h\""));
  EXPECT_FALSE(Violates("data/loader.cc", "#include \"absl/strings/string_view.h\""));
}

TEST(ArchitectureRules, VendorHeadersHaveOneHome) {
  EXPECT_TRUE(Violates("trainer/train_loop.cc", "#include <mpi.h>"));
  EXPECT_TRUE(Violates("parallel/ep/dispatcher.cc", "#include <mpi.h>"));
  EXPECT_TRUE(Violates("launch/doctor.cc", "# include <nccl.h>"));
  EXPECT_TRUE(Violates("parallel/comm/nccl.cc", "#include <cublasLt.h>"));
  EXPECT_TRUE(Violates("trainer/model/mla.cc", "#include <cuda_runtime.h>"));
  EXPECT_TRUE(Violates("data/loader.cc", "#include <google/protobuf/message.h>"));
  EXPECT_TRUE(Violates("trainer/train_loop.cc", "#include <CLI/CLI.hpp>"));
  EXPECT_FALSE(Violates("parallel/comm/mpi.cc", "#include <mpi.h>"));
  EXPECT_FALSE(Violates("kernels/cuda/gemm.cu", "#include <cublasLt.h>"));
}

TEST(ArchitectureRules, NoConditionalCompilationAboveKernels) {
  EXPECT_TRUE(Violates("trainer/train_step.cc", "#ifdef __CUDACC__"));
  EXPECT_TRUE(Violates("parallel/mesh.cc", "#if defined(JEVONS_CUDA)"));
  EXPECT_TRUE(Violates("launch/bench.cc", "  #ifndef NDEBUG"));
  EXPECT_FALSE(Violates("parallel/mesh.h", "#ifndef JEVONS_PARALLEL_MESH_H_"));
  EXPECT_FALSE(Violates("kernels/tensor/dtype.h", "#ifdef __CUDACC__"));
}

TEST(ArchitectureRules, MessageNamesFileLineAndRule) {
  const auto violations =
      ArchitectureViolations("data/a.h", "#include <vector>\n#include \"parallel/mesh.h\"\n");
  ASSERT_EQ(violations.size(), 1u);
  EXPECT_EQ(violations[0], "data/a.h:2: includes parallel/mesh.h; data/ may include data/, kernels/base/");
}

}  // namespace
}  // namespace jevons
