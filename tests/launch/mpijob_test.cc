// launch/kubernetes/mpijob.yaml against the MPI operator's published schema, without a cluster: a field that the operator does not know is
// dropped without a word, and one of another type refused.
//
// Facts from kubeflow/mpi-operator at caa3c47 (2026-07-02): manifests/base/kubeflow.org_mpijobs.yaml, version v2beta1, which has Kubernetes'
// pod template in it, and pkg/apis/kubeflow/validation/validation.go; of them what the job uses, and what must be there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cctype>
#include <fstream>
#include <map>
#include <regex>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "tests/support/paths.h"

namespace jevons {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Scalars by path: "spec.containers[0].name" -> "worker".
using Scalars = std::map<std::string, std::string>;

// The YAML of the file: block maps and lists, flow ones within a line, plain scalars, comments.
class Yaml {
 public:
  explicit Yaml(const std::string& text) {
    for (const absl::string_view line : absl::StrSplit(text, '\n')) {
      const std::string kept(
          absl::StripTrailingAsciiWhitespace(line.substr(0, absl::StartsWith(line, "#") ? 0 : line.find(" #"))));
      if (!absl::StripAsciiWhitespace(kept).empty()) lines_.push_back(kept);
    }
    while (at_ < lines_.size()) Block("");
  }
  const Scalars& scalars() const { return scalars_; }

 private:
  static size_t Indent(const std::string& line) { return line.find_first_not_of(' '); }
  static std::string Join(const std::string& path, const std::string& key) { return path.empty() ? key : path + "." + key; }

  // What begins on this line and is indented as it is.
  void Block(const std::string& path) {
    const size_t indent = Indent(lines_[at_]);
    for (size_t item = 0; at_ < lines_.size() && Indent(lines_[at_]) == indent;) {
      std::string& line = lines_[at_];
      const std::string rest = line.substr(indent);
      if (absl::StartsWith(rest, "- ")) {
        const std::string place = absl::StrCat(path, "[", item++, "]");
        line[indent] = ' ';  // the item is a block of its own, two further in
        if (IsKey(rest.substr(2))) {
          Block(place);
        } else {
          Value(place, rest.substr(2));
          ++at_;
        }
        continue;
      }
      const size_t colon = rest.find(':');
      const std::string place = Join(path, rest.substr(0, colon));
      const std::string value(absl::StripAsciiWhitespace(rest.substr(colon + 1)));
      ++at_;
      if (!value.empty()) {
        Value(place, value);
      } else if (at_ < lines_.size() && Indent(lines_[at_]) > indent) {
        Block(place);
      }
    }
  }
  static bool IsKey(const std::string& text) {
    static const std::regex key("[A-Za-z./]+:( .*)?");
    return std::regex_match(text, key);
  }
  void Value(const std::string& path, std::string text) {
    if (text[0] != '{' && text[0] != '[') {
      scalars_[path] = text;
      return;
    }
    const bool map = text[0] == '{';
    text = text.substr(1, text.size() - 2);
    size_t item = 0, begin = 0;
    for (size_t i = 0, depth = 0; i <= text.size(); ++i) {
      const char c = i < text.size() ? text[i] : ',';
      depth += c == '{' || c == '[';
      depth -= c == '}' || c == ']';
      if (c != ',' || depth > 0) continue;
      const std::string part(absl::StripAsciiWhitespace(text.substr(begin, i - begin)));
      const std::pair<std::string, std::string> field = absl::StrSplit(part, absl::MaxSplits(": ", 1));
      if (map)
        Value(Join(path, field.first), field.second);
      else
        Value(absl::StrCat(path, "[", item++, "]"), part);
      begin = i + 1;
    }
  }

  std::vector<std::string> lines_;
  size_t at_ = 0;
  Scalars scalars_;
};

// Field, below spec or the template of a pod, and its type: "int", "text", "int or text", or its values.
const std::map<std::string, std::string> kJobFields = {
    {"apiVersion", "kubeflow.org/v2beta1"},
    {"kind", "MPIJob"},
    {"metadata.name", "text"},
    {"spec.slotsPerWorker", "int"},
    {"spec.mpiImplementation", "OpenMPI|Intel|MPICH"},
    {"spec.launcherCreationPolicy", "AtStartup|WaitForWorkersReady"},
    {"spec.runPolicy.cleanPodPolicy", "None|Running|All"},
    {"spec.runPolicy.backoffLimit", "int"},
    {"spec.mpiReplicaSpecs.POD.replicas", "int"},
    {"spec.mpiReplicaSpecs.POD.restartPolicy", "Never|OnFailure"},
};
const std::map<std::string, std::string> kPodFields = {
    {"terminationGracePeriodSeconds", "int"},
    {"containers[].name", "text"},
    {"containers[].image", "text"},
    {"containers[].command[]", "text"},
    {"containers[].args[]", "text"},
    {"containers[].resources.limits.cpu", "int or text"},
    {"containers[].resources.limits.memory", "int or text"},
    {"containers[].resources.limits.nvidia.com/gpu", "int or text"},
    {"containers[].resources.limits.rdma/hca", "int or text"},
    {"containers[].securityContext.capabilities.add[]", "text"},
    {"containers[].volumeMounts[].name", "text"},
    {"containers[].volumeMounts[].mountPath", "text"},
    {"volumes[].name", "text"},
    {"volumes[].persistentVolumeClaim.claimName", "text"},
    {"volumes[].emptyDir.medium", "text"},
    {"volumes[].emptyDir.sizeLimit", "int or text"},
};
const std::vector<std::string> kNeeded = {"apiVersion",
                                          "kind",
                                          "metadata.name",
                                          "spec.mpiReplicaSpecs.Launcher.replicas",
                                          "spec.mpiReplicaSpecs.Worker.replicas",
                                          "spec.mpiReplicaSpecs.Launcher.template.spec.containers[0].name",
                                          "spec.mpiReplicaSpecs.Worker.template.spec.containers[0].name"};

bool Fits(const std::string& value, const std::string& type) {
  int64_t number = 0;
  const bool is_int = absl::SimpleAtoi(value, &number);
  if (type == "int") return is_int && number >= 0 && number <= 0x7fffffff;
  if (type == "text") return !is_int && value != "true" && value != "false" && value != "null";
  if (type == "int or text") return true;
  const std::vector<std::string> values = absl::StrSplit(type, '|');
  return std::find(values.begin(), values.end(), value) != values.end();
}

// What the operator would not take as it was meant, by path.
std::vector<std::string> Problems(const std::string& text) {
  static const std::regex index("\\[[0-9]+\\]"), pod("spec\\.mpiReplicaSpecs\\.(Launcher|Worker)");
  const Scalars scalars = Yaml(text).scalars();
  std::vector<std::string> problems;
  for (const auto& [path, value] : scalars) {
    std::string field = std::regex_replace(std::regex_replace(path, index, "[]"), pod, "spec.mpiReplicaSpecs.POD");
    const std::string in_pod = "spec.mpiReplicaSpecs.POD.template.spec.";
    const auto& fields = absl::StartsWith(field, in_pod) ? kPodFields : kJobFields;
    if (absl::StartsWith(field, in_pod)) field = field.substr(in_pod.size());
    const auto known = fields.find(field);
    if (known == fields.end())
      problems.push_back(path + " is not known");
    else if (!Fits(value, known->second))
      problems.push_back(absl::StrCat(path, " = ", value, ": not ", known->second));
  }
  for (const std::string& path : kNeeded)
    if (!scalars.contains(path)) problems.push_back(path + " is missing");
  if (const auto launchers = scalars.find("spec.mpiReplicaSpecs.Launcher.replicas");
      launchers != scalars.end() && launchers->second != "1")
    problems.push_back("spec.mpiReplicaSpecs.Launcher.replicas must be 1");
  return problems;
}

std::string JobText() {
  std::ifstream file(SourcePath("launch/kubernetes/mpijob.yaml"));
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(MpiJob, IsOfTheOperatorsSchema) {
  const std::string text = JobText();
  ASSERT_THAT(text, HasSubstr("kind: MPIJob"));
  EXPECT_THAT(Problems(text), IsEmpty());
  const std::string gpu = absl::StrReplaceAll(text, {{"# GPU: ", ""}});
  ASSERT_THAT(gpu, HasSubstr("\n                  nvidia.com/gpu: 8"));
  EXPECT_THAT(Problems(gpu), IsEmpty());
}

TEST(MpiJob, StartsAsManyRanksAsThereAreSlots) {
  const Scalars job = Yaml(JobText()).scalars();
  const int slots = std::stoi(job.at("spec.slotsPerWorker")) * std::stoi(job.at("spec.mpiReplicaSpecs.Worker.replicas"));
  EXPECT_THAT(job.at("spec.mpiReplicaSpecs.Launcher.template.spec.containers[0].args[0]"),
              HasSubstr(absl::StrCat("-np ", slots)));
}

TEST(MpiJob, AMistakeInItIsFound) {
  const auto after = [](const std::string& from, const std::string& to) {
    EXPECT_THAT(JobText(), HasSubstr(from));
    return Problems(absl::StrReplaceAll(JobText(), {{from, to}}));
  };
  EXPECT_THAT(after("slotsPerWorker: 8", "slotsPerWorker: eight"), ElementsAre("spec.slotsPerWorker = eight: not int"));
  EXPECT_THAT(after("cleanPodPolicy: Running", "cleanPodPolicy: running"),
              ElementsAre("spec.runPolicy.cleanPodPolicy = running: not None|Running|All"));
  EXPECT_THAT(after("    backoffLimit:", "    backOffLimit:"), ElementsAre("spec.runPolicy.backOffLimit is not known"));
  EXPECT_THAT(after("mountPath: /dev/shm", "mountpath: /dev/shm"),
              ElementsAre("spec.mpiReplicaSpecs.Worker.template.spec.containers[0].volumeMounts[1].mountpath is not known"));
  EXPECT_THAT(after("  runPolicy:\n    cleanPodPolicy: Running\n", "  cleanPodPolicy: Running\n  runPolicy:\n"),
              ElementsAre("spec.cleanPodPolicy is not known"));
  EXPECT_THAT(after("replicas: 4", "replica: 4"),
              ElementsAre("spec.mpiReplicaSpecs.Worker.replica is not known", "spec.mpiReplicaSpecs.Worker.replicas is missing"));
}

}  // namespace
}  // namespace jevons
