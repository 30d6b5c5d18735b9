#include "configs/ladder.h"

#include <algorithm>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "configs/field_ranges.h"
#include "configs/parse_errors.h"
#include "configs/text_file.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

// Names become parts of folders' names.
bool Plain(const std::string& name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.';
  }) && name[0] != '.';
}

class LadderChecker {
 public:
  explicit LadderChecker(const LadderConfig& ladder) : ladder_(ladder) {}

  std::vector<Violation> Run() {
    if (ladder_.name().empty()) Add("name", "not set", "must name the ladder");
    if (ladder_.base().empty()) Add("base", "not set", "must name a run config", "configs/presets/quickstart_cpu.textproto");
    if (ladder_.size_size() == 0) Add("size", "not set", "must be there, once for each size");
    if (ladder_.variant_size() == 0) Add("variant", "not set", "must be there, once for each variant");
    Sizes();
    Variants();
    Law();
    for (const FieldRange& range : {FieldRange{"machine.devices", 1e-3, 1e7},
                                    FieldRange{"machine.price_per_device_hour", 0, 1e6, true}, FieldRange{"asymptote", 0, 100}})
      CheckRange(ladder_, range, "", violations_);
    return std::move(violations_);
  }

 private:
  void Add(const std::string& field, const std::string& value, const std::string& rule, const std::string& nearest = "") {
    violations_.push_back({field, value, rule, nearest});
  }

  void Name(const std::string& field, const std::string& name, std::set<std::string>& seen) {
    if (!Plain(name)) {
      Add(field, name.empty() ? "not set" : absl::StrCat("\"", name, "\""),
          "must be made of letters, digits, _ and .: folders are called after it");
    } else if (!seen.insert(name).second) {
      Add(field, absl::StrCat("\"", name, "\""), "must not be given twice");
    }
  }

  void Sizes() {
    std::set<std::string> names;
    for (int i = 0; i < ladder_.size_size(); ++i) {
      const LadderSize& size = ladder_.size(i);
      const std::string prefix = absl::StrCat("size[", i, "].");
      Name(prefix + "name", size.name(), names);
      CheckRange(size, {"gflops", 1e-6, 1e12}, prefix, violations_);
      Distinct(prefix + "seed", size.seed());
      Distinct(prefix + "tokens_factor", size.tokens_factor());
      for (const double factor : size.tokens_factor())
        if (!(factor >= 1e-3 && factor <= 1e3))
          Add(prefix + "tokens_factor", absl::StrCat(factor), "must be from 0.001 to 1000", "1");
    }
  }

  template <typename Values>
  void Distinct(const std::string& field, const Values& values) {
    const std::set<typename Values::value_type> distinct(values.begin(), values.end());
    if (static_cast<int>(distinct.size()) < values.size()) Add(field, "a value", "must not be given twice");
  }

  void Variants() {
    std::set<std::string> names;
    for (int i = 0; i < ladder_.variant_size(); ++i) {
      const std::string prefix = absl::StrCat("variant[", i, "].");
      Name(prefix + "name", ladder_.variant(i).name(), names);
      CheckRange(ladder_.variant(i), {"experts", 0, 8192, true}, prefix, violations_);
      CheckRange(ladder_.variant(i), {"slowdown", 1e-3, 1e3}, prefix, violations_);
    }
  }

  void Law() {
    const LadderLaw& law = ladder_.law();
    if (!law.has_name()) Add("law.name", "not set", "must be DEEPSEEK_LLM, STEP_LAW, OLMO or CONSTANTS");
    const bool constants = law.name() == CONSTANTS, deepseek = law.name() == DEEPSEEK_LLM;
    for (const FieldRange& range :
         {FieldRange{"law.tokens_per_parameter", 1e-3, 1e6, deepseek}, FieldRange{"law.learning_rate", 1e-12, 10, !constants},
          FieldRange{"law.batch_tokens", 1, 1e12, !constants}, FieldRange{"law.learning_rate_factor", 1e-6, 1e6},
          FieldRange{"law.batch_factor", 1e-6, 1e6}, FieldRange{"law.warmup_share", 0, 1}})
      CheckRange(ladder_, range, "", violations_);
    if (!constants && law.has_learning_rate())
      Add("law.learning_rate", absl::StrCat(law.learning_rate()), "is for law.name = CONSTANTS alone",
          "leave it out; law.learning_rate_factor changes a law's");
    if (!constants && law.has_batch_tokens())
      Add("law.batch_tokens", absl::StrCat(law.batch_tokens()), "is for law.name = CONSTANTS alone",
          "leave it out; law.batch_factor changes a law's");
  }

  const LadderConfig& ladder_;
  std::vector<Violation> violations_;
};

}  // namespace

std::vector<Violation> Validate(const LadderConfig& ladder) { return LadderChecker(ladder).Run(); }

absl::StatusOr<LadderConfig> ParseLadder(const std::string& text, const std::string& name) {
  LadderConfig ladder;
  JEVONS_RETURN_IF_ERROR(ParseText(text, name, ladder));
  JEVONS_RETURN_IF_ERROR(FileStatus(name, Validate(ladder)));
  return ladder;
}

absl::StatusOr<LadderConfig> LoadLadder(const std::string& path) {
  JEVONS_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, "a ladder, such as configs/ladders/small_cpu.textproto"));
  return ParseLadder(text, path);
}

}  // namespace jevons
