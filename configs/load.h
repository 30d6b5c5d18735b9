// A run's description: text format in, RunConfig out.
//
//   JEVONS_ASSIGN_OR_RETURN(RunConfig config, LoadRunConfig("run.textproto", {{"model.layers=8"}}));
//   JEVONS_RETURN_IF_ERROR(ValidationStatus(config, world_size));   // configs/validate.h
#ifndef JEVONS_CONFIGS_LOAD_H_
#define JEVONS_CONFIGS_LOAD_H_

#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "configs/run.pb.h"

namespace jevons {

// The file, then the overrides (configs/overrides.h) in order. Usage errors list every unknown field and
// every bad override at once; a syntax error ends the reading where it stands. Each line says where, what and
// the remedy:
//   run.textproto:7:5: ModelConfig has no field "layer"; did you mean "layers"?
absl::StatusOr<RunConfig> LoadRunConfig(const std::string& path, std::span<const std::string> overrides);

// The same from text; `name` stands for the file in messages.
absl::StatusOr<RunConfig> ParseRunConfig(const std::string& text, const std::string& name,
                                         std::span<const std::string> overrides);

// Every field, with its default where none was given: what `--print-config` shows and a checkpoint keeps.
// Fields without default that nobody set are left out. Parsing the result gives the same text again.
std::string ResolvedText(const RunConfig& config);

}  // namespace jevons

#endif  // JEVONS_CONFIGS_LOAD_H_
