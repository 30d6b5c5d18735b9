#include "trainer/spec/hf_names.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace jevons {

std::vector<PublishedTensor> PublishedTensors(const ParamSpec& spec) {
  absl::string_view stem = spec.name;
  const bool gate_up = absl::ConsumeSuffix(&stem, "gate_up_proj.weight");
  if (!gate_up && !spec.expert) return {{spec.name, {spec.shape.dims, spec.shape.dims + spec.shape.rank}, 0}};
  if (!gate_up) absl::ConsumeSuffix(&stem, "down_proj.weight");
  const int64_t copies = spec.expert ? spec.shape[0] : 1, cols = spec.shape.cols();
  const int64_t rows = spec.shape.rows() / copies / (gate_up ? 2 : 1);
  std::vector<PublishedTensor> tensors;
  int64_t begin = 0;
  for (int64_t i = 0; i < copies; ++i) {
    const std::string prefix = spec.expert ? absl::StrCat(stem, i, ".") : std::string(stem);
    const auto add = [&](const char* name) {
      tensors.push_back({absl::StrCat(prefix, name, ".weight"), {rows, cols}, begin});
      begin += rows * cols;
    };
    if (gate_up) {
      add("gate_proj");
      add("up_proj");
    } else {
      add("down_proj");
    }
  }
  return tensors;
}

std::vector<SharedCopy> SharedCopies(const ModelConfig& model) {
  std::vector<SharedCopy> copies;
  for (int64_t k = 0; k < model.mtp().depth(); ++k) {
    const std::string prefix = absl::StrCat("model.layers.", model.layers() + k, ".");
    copies.push_back({prefix + "embed_tokens.weight", "model.embed_tokens.weight"});
    copies.push_back({prefix + "shared_head.head.weight", "lm_head.weight"});
  }
  return copies;
}

std::vector<PublishedTensor> EmptySharedExperts(const ModelConfig& model) {
  std::vector<PublishedTensor> tensors;
  if (model.moe().shared_experts() > 0) return tensors;
  for (int64_t layer = model.dense_layers(); layer < model.layers() + model.mtp().depth(); ++layer) {
    const std::string prefix = absl::StrCat("model.layers.", layer, ".mlp.shared_experts.");
    tensors.push_back({prefix + "gate_proj.weight", {0, model.hidden_size()}});
    tensors.push_back({prefix + "up_proj.weight", {0, model.hidden_size()}});
    tensors.push_back({prefix + "down_proj.weight", {model.hidden_size(), 0}});
  }
  return tensors;
}

bool PublishedInFp8(const ParamSpec& spec) {
  switch (spec.part) {
    case ModelPart::kAttention:
    case ModelPart::kDenseFfn:
    case ModelPart::kSharedExperts:
    case ModelPart::kRoutedExperts: return true;
    case ModelPart::kEmbedding:
    case ModelPart::kNorm:
    case ModelPart::kRouter:
    case ModelPart::kMtpProjection:
    case ModelPart::kHead: return false;
  }
  return false;
}

}  // namespace jevons
