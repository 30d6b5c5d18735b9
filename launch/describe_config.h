// A run's description, told: its parameters and its FLOPs, for people and for programs.
#ifndef JEVONS_LAUNCH_DESCRIBE_CONFIG_H_
#define JEVONS_LAUNCH_DESCRIBE_CONFIG_H_

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "configs/run.pb.h"

namespace jevons {

// Every parameter with its shape, equal ones of consecutive layers on one line, then the sums. vocab_size
// must be known.
std::string ParamsText(const ModelConfig& model);
nlohmann::ordered_json ParamsJson(const ModelConfig& model);

// What a model is, in one line; "" where its description is not whole.
std::string ModelText(const RunConfig& config);

// FLOPs per token, term by term.
std::string FlopsText(const RunConfig& config);
nlohmann::ordered_json FlopsJson(const RunConfig& config);

// The fields that are set, as an object.
nlohmann::ordered_json ConfigJson(const google::protobuf::Message& message);

}  // namespace jevons

#endif  // JEVONS_LAUNCH_DESCRIBE_CONFIG_H_
