#include "tests/support/include_rules.h"

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace jevons {
namespace {

using Prefixes = std::vector<std::string>;

// What the files of `folder` may include of ours. The first whose folder holds a file applies to it.
struct FolderRule {
  std::string folder;
  Prefixes may;
};

// The strata of kernels/, from below. A backend knows the definitions and not the other backend.
const Prefixes kTensors = {"kernels/base/", "kernels/tensor/"};
const Prefixes kOperators = {"kernels/base/", "kernels/tensor/", "kernels/fp8/", "kernels/ops/"};

Prefixes And(Prefixes some, const Prefixes& more) {
  some.insert(some.end(), more.begin(), more.end());
  return some;
}

const std::vector<FolderRule>& FolderRules() {
  static const std::vector<FolderRule> rules = {
      {"kernels/base/", {"kernels/base/"}},
      {"kernels/tensor/", kTensors},
      {"kernels/fp8/", And({"kernels/fp8/"}, kTensors)},
      {"kernels/ops/", kOperators},
      {"kernels/ref/", And({"kernels/ref/"}, kOperators)},
      {"kernels/cpu/", And({"kernels/cpu/", "kernels/ref/"}, kOperators)},
      {"kernels/cuda/", And({"kernels/cuda/", "kernels/ref/"}, kOperators)},
      {"kernels/registry/", {"kernels/"}},
      {"configs/", {"configs/", "kernels/base/"}},
      {"data/", {"data/", "kernels/base/"}},
      {"parallel/", And({"parallel/"}, kOperators)},
      {"trainer/spec/", And({"trainer/spec/", "parallel/pipeline/", "configs/"}, kTensors)},
      {"trainer/files/", {"trainer/files/", "kernels/base/"}},
      {"trainer/metrics/", {"trainer/metrics/", "trainer/files/", "trainer/spec/", "configs/", "kernels/base/"}},
      {"trainer/report/",
       {"trainer/report/", "trainer/metrics/", "trainer/files/", "trainer/spec/", "configs/", "kernels/base/"}},
      {"trainer/checkpoint/", And({"trainer/checkpoint/", "trainer/files/", "parallel/comm/"}, kTensors)},
      {"trainer/model/", And({"trainer/model/", "trainer/spec/", "parallel/", "configs/"}, kOperators)},
      {"trainer/optim/", And({"trainer/optim/", "trainer/model/", "trainer/spec/", "parallel/", "configs/"}, kOperators)},
      {"trainer/step/",
       And({"trainer/step/", "trainer/optim/", "trainer/model/", "trainer/spec/", "parallel/", "data/", "configs/"}, kOperators)},
      {"trainer/plan/",
       And({"trainer/plan/", "trainer/step/", "trainer/metrics/", "trainer/spec/", "parallel/", "configs/"}, kOperators)},
      {"trainer/ladder/", {"trainer/ladder/", "trainer/spec/", "configs/", "kernels/base/"}},
      {"trainer/run/",
       And({"trainer/run/", "trainer/plan/", "trainer/step/", "trainer/optim/", "trainer/model/", "trainer/checkpoint/",
            "trainer/metrics/", "trainer/files/", "trainer/spec/", "parallel/", "data/", "configs/"},
           kOperators)},
      {"trainer/interop/", And({"trainer/", "parallel/", "data/", "configs/"}, kOperators)},
      {"launch/", {"launch/", "trainer/", "parallel/", "data/", "configs/", "kernels/"}},
  };
  return rules;
}

// Headers of other people that have one home.
struct VendorRule {
  Prefixes headers;
  Prefixes homes;
};

const std::vector<VendorRule>& VendorRules() {
  static const std::vector<VendorRule> rules = {
      {{"mpi.h", "nccl.h"}, {"parallel/comm/"}},
      {{"cudnn", "cublas"}, {"kernels/cuda/"}},
      {{"cuda"}, {"kernels/", "parallel/comm/"}},
      {{"hwy/"}, {"kernels/"}},
      {{"google/protobuf/"}, {"configs/", "trainer/", "launch/"}},
      {{"CLI/"}, {"launch/"}},
  };
  return rules;
}

bool StartsWithAny(absl::string_view text, const Prefixes& prefixes) {
  for (const std::string& prefix : prefixes) {
    if (absl::StartsWith(text, prefix)) return true;
  }
  return false;
}

std::string OursViolation(const std::string& path, const std::string& header) {
  for (const FolderRule& rule : FolderRules()) {
    if (!absl::StartsWith(path, rule.folder)) continue;
    if (StartsWithAny(header, rule.may)) return "";
    return absl::StrFormat("includes %s; %s may include %s", header, rule.folder, absl::StrJoin(rule.may, ", "));
  }
  return "";
}

std::string VendorViolation(const std::string& path, const std::string& header) {
  for (const VendorRule& rule : VendorRules()) {
    if (!StartsWithAny(header, rule.headers)) continue;
    if (StartsWithAny(path, rule.homes)) return "";
    return absl::StrFormat("includes <%s>; its home is %s", header, absl::StrJoin(rule.homes, ", "));
  }
  return "";
}

// A header is ours when it lies in one of our folders, or is quoted without any folder.
bool IsOurs(absl::string_view header, bool quoted) {
  static const Prefixes kFolders = {"kernels/", "configs/", "data/", "parallel/", "trainer/", "launch/", "tests/"};
  return StartsWithAny(header, kFolders) || (quoted && !absl::StrContains(header, "/"));
}

std::string IncludeViolation(const std::string& path, absl::string_view rest) {
  const bool quoted = absl::ConsumePrefix(&rest, "\"");
  if (!quoted && !absl::ConsumePrefix(&rest, "<")) return "";
  const std::string header(rest.substr(0, rest.find_first_of("\">")));
  return IsOurs(header, quoted) ? OursViolation(path, header) : VendorViolation(path, header);
}

// The backend is chosen by the build's choice of files, so code above kernels/ has no conditional parts.
std::string ConditionViolation(const std::string& path, absl::string_view directive, absl::string_view rest) {
  if (absl::StartsWith(path, "kernels/")) return "";
  if (directive != "if" && directive != "ifdef" && directive != "ifndef") return "";
  const bool guard = directive == "ifndef" && absl::StartsWith(rest, "JEVONS_") && absl::EndsWith(rest, "_H_");
  return guard ? "" : absl::StrFormat("#%s %s; no conditional compilation above kernels/", directive, rest);
}

}  // namespace

std::vector<std::string> ArchitectureViolations(const std::string& path, const std::string& text) {
  std::vector<std::string> violations;
  int number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line);
    if (!absl::ConsumePrefix(&line, "#")) continue;
    line = absl::StripLeadingAsciiWhitespace(line);
    const absl::string_view directive = line.substr(0, line.find_first_of(" \t\"<("));
    const absl::string_view rest = absl::StripAsciiWhitespace(line.substr(directive.size()));
    const std::string what = directive == "include" ? IncludeViolation(path, rest) : ConditionViolation(path, directive, rest);
    if (!what.empty()) violations.push_back(absl::StrFormat("%s:%d: %s", path, number, what));
  }
  return violations;
}

}  // namespace jevons
