// The table of all fields: every one is there, with what run.proto says of it.
#include "configs/fields.h"

#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "absl/strings/str_replace.h"
#include "configs/nearest.h"
#include "configs/ranges.h"
#include "configs/run.pb.h"

namespace jevons {
namespace {

std::map<std::string, FieldDoc> ByPath() {
  std::map<std::string, FieldDoc> fields;
  for (const FieldGroup& group : RunFields())
    for (const FieldDoc& field : group.fields)
      EXPECT_TRUE(fields.emplace(absl::StrReplaceAll(field.path, {{"[0]", ""}}), field).second) << field.path;
  return fields;
}

TEST(RunFields, EveryFieldIsThereWithItsMeaning) {
  const auto fields = ByPath();
  for (const auto& [path, field] : fields) EXPECT_NE(field.meaning, "") << path << " has no comment in run.proto";
  for (const IntRange& range : kIntRanges) EXPECT_TRUE(fields.count(range.path)) << range.path;
  for (const RealRange& range : kRealRanges) EXPECT_TRUE(fields.count(range.path)) << range.path;
  size_t leaves = 0;
  for (const std::string& path : FieldPaths(*RunConfig::descriptor())) {
    const bool known = fields.count(path) > 0;
    const bool message = !known && std::any_of(fields.begin(), fields.end(),
                                               [&](const auto& f) { return f.first.substr(0, path.size() + 1) == path + "."; });
    EXPECT_TRUE(known || message) << path;
    leaves += known;
  }
  EXPECT_EQ(leaves, fields.size());
}

TEST(RunFields, CommentsAreTakenApart) {
  const auto fields = ByPath();
  const FieldDoc& layers = fields.at("model.dense_layers");
  EXPECT_EQ(layers.type, "int64");
  EXPECT_EQ(layers.value, "1");
  EXPECT_EQ(layers.meaning, "the first so many have a dense FFN");
  EXPECT_EQ(layers.reason, "TR: 3 of 61");
  const FieldDoc& length = fields.at("model.attention.yarn.original_length");
  EXPECT_EQ(length.unit, "tokens");
  EXPECT_EQ(length.meaning, "sequence length of pre-training");
  const FieldDoc& gemm = fields.at("precision.gemm");
  EXPECT_EQ(gemm.type, "ProductType");
  EXPECT_EQ(gemm.value, "AS_COMPUTE");
  ASSERT_EQ(gemm.choices.size(), 2u);
  EXPECT_EQ(gemm.choices[1].first, "FP8_BLOCK");
  EXPECT_NE(gemm.choices[1].second.find("TR 3.3"), std::string::npos) << gemm.choices[1].second;
  EXPECT_EQ(fields.at("balance.bias_speed").type, "list of TokenStep");
}

}  // namespace
}  // namespace jevons
