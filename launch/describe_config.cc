#include "launch/describe_config.h"

#include <google/protobuf/message.h>

#include <map>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "configs/validate.h"
#include "kernels/base/check.h"
#include "launch/cli.h"
#include "trainer/spec/flops.h"
#include "trainer/spec/params.h"

namespace jevons {
namespace {

using Json = nlohmann::ordered_json;

// Parameters of one name and shape in several layers.
struct ParamGroup {
  std::string before, after;  // the name around the layer's number; `after` is empty for a name without one
  Shape shape;
  int64_t first = 0, last = 0, layers = 0;  // layers that have it

  std::string Name() const {
    if (after.empty()) return before;
    if (layers == 1) return absl::StrCat(before, first, after);
    return absl::StrFormat("%s{%d-%d}%s", before, first, last, after);
  }
  int64_t elements() const { return shape.size() * layers; }
};

// In order of first appearance; a gap in the layers, or the step from the model to its MTP modules, starts a
// new group.
std::vector<ParamGroup> GroupedTable(const ModelConfig& model) {
  constexpr absl::string_view kLayers = "model.layers.";
  std::vector<ParamGroup> groups;
  std::map<std::string, size_t> newest;  // group by name pattern and shape
  for (const ParamSpec& spec : ParameterTable(model)) {
    ParamGroup group{spec.name, "", spec.shape, 0, 0, 1};
    if (absl::string_view(spec.name).substr(0, kLayers.size()) == kLayers) {
      const size_t dot = spec.name.find('.', kLayers.size());
      group.before = std::string(kLayers);
      group.after = spec.name.substr(dot);
      group.first = group.last = std::stoll(spec.name.substr(kLayers.size(), dot - kLayers.size()));
    }
    const bool mtp = spec.layer > model.layers();
    const std::string key = absl::StrCat(group.before, "*", group.after, spec.shape.ToString(), mtp);
    const auto known = newest.find(key);
    if (known != newest.end() && groups[known->second].last + 1 == group.first) {
      groups[known->second].last = group.first;
      ++groups[known->second].layers;
    } else {
      newest[key] = groups.size();
      groups.push_back(std::move(group));
    }
  }
  return groups;
}

// The sums of a model, each with what it counts.
std::vector<std::pair<const char*, int64_t>> Sums(const ModelConfig& model) {
  const ParamCount count = CountParameters(model);
  std::vector<std::pair<const char*, int64_t>> sums = {
      {"total, without MTP modules", count.total},
      {"active per token, without the input embedding", count.active_without_embedding},
      {"routed experts, sharded over ep", count.routed},
  };
  if (count.mtp_unique > 0) {
    sums.emplace_back("MTP modules", count.mtp_unique);
    sums.emplace_back("MTP modules, without eh_proj", count.mtp_unique - count.mtp_projection);
  }
  return sums;
}

Json FieldJson(const google::protobuf::Message& message, const google::protobuf::FieldDescriptor& field) {
  using Field = google::protobuf::FieldDescriptor;
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case Field::CPPTYPE_MESSAGE: return ConfigJson(reflection.GetMessage(message, &field));
    case Field::CPPTYPE_INT64: return reflection.GetInt64(message, &field);
    case Field::CPPTYPE_UINT64: return reflection.GetUInt64(message, &field);
    case Field::CPPTYPE_DOUBLE: return reflection.GetDouble(message, &field);
    case Field::CPPTYPE_BOOL: return reflection.GetBool(message, &field);
    case Field::CPPTYPE_STRING: return reflection.GetString(message, &field);
    case Field::CPPTYPE_ENUM: return reflection.GetEnum(message, &field)->name();
    default: break;
  }
  JEVONS_CHECK(false, "run.proto has a field of a type that it did not have: %s", field.full_name().c_str());
}

}  // namespace

std::string ParamsText(const ModelConfig& model) {
  std::string text = absl::StrFormat("%-58s %-20s %16s\n", "parameter", "shape", "elements");
  for (const ParamGroup& group : GroupedTable(model)) {
    absl::StrAppendFormat(&text, "%-58s %-20s %16d\n", group.Name(), group.shape.ToString(), group.elements());
  }
  text += "\n";
  for (const auto& [what, elements] : Sums(model)) {
    absl::StrAppendFormat(&text, "%-58s %20s %16d\n", what, HumanCount(static_cast<double>(elements)), elements);
  }
  return text;
}

Json ParamsJson(const ModelConfig& model) {
  Json tensors = Json::array();
  for (const ParamSpec& spec : ParameterTable(model)) {
    const std::vector<int64_t> shape(spec.shape.dims, spec.shape.dims + spec.shape.rank);
    tensors.push_back({{"name", spec.name}, {"shape", shape}, {"elements", spec.shape.size()}});
  }
  const ParamCount count = CountParameters(model);
  return {{"total", count.total},
          {"active_without_embedding", count.active_without_embedding},
          {"routed", count.routed},
          {"mtp", count.mtp_unique},
          {"mtp_without_projection", count.mtp_unique - count.mtp_projection},
          {"tensors", std::move(tensors)}};
}

std::string ModelText(const RunConfig& config) {
  if (config.model().vocab_size() == 0 || !ValidationStatus(config, /*world_size=*/0).ok()) return "";
  const ModelConfig& model = config.model();
  const ParamCount count = CountParameters(model);
  std::string text = absl::StrFormat(
      "%s parameters, %s active; %d layers, hidden size %d, vocabulary of %d", HumanCount(static_cast<double>(count.total)),
      HumanCount(static_cast<double>(count.active_without_embedding)), model.layers(), model.hidden_size(), model.vocab_size());
  if (model.layers() > model.dense_layers())
    text += absl::StrFormat(", %d of %d experts", model.moe().top_k(), model.moe().routed_experts());
  if (model.mtp().depth() > 0) text += absl::StrFormat(", MTP depth %d", model.mtp().depth());
  return text;
}

std::string FlopsText(const RunConfig& config) { return FlopTable(config.model(), config.data().sequence_length()); }

Json FlopsJson(const RunConfig& config) {
  Json result;
  result["sequence_length"] = config.data().sequence_length();
  for (const auto& [name, core] : {std::pair{"causal", CoreCount::kCausal}, std::pair{"full", CoreCount::kFull}}) {
    const FlopCount count = CountFlops(config.model(), config.data().sequence_length(), core);
    Json terms;
    for (const FlopTerm& term : count.terms) terms[term.name] = term.forward;
    result[name] = {{"training_per_token", count.training()},
                    {"training_per_token_without_mtp", count.training_without_mtp()},
                    {"forward_per_token", count.forward()},
                    {"forward_terms", std::move(terms)}};
  }
  return result;
}

Json ConfigJson(const google::protobuf::Message& message) {
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  std::vector<const google::protobuf::FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  Json object = Json::object();
  for (const google::protobuf::FieldDescriptor* field : fields) {
    Json& value = object[field->name()];
    if (!field->is_repeated()) value = FieldJson(message, *field);
    for (int i = 0; field->is_repeated() && i < reflection.FieldSize(message, field); ++i) {
      value.push_back(ConfigJson(reflection.GetRepeatedMessage(message, field, i)));  // the only lists are of messages
    }
  }
  return object;
}

}  // namespace jevons
