// `--set path=value`: one field of a run, changed on the command line.
//
//   model.layers=8                        a number, a bool, a string (as is, no quotes)
//   precision.compute=BF16                an enum, by name
//   data.mixture[0].weight=0.5            an entry of a list; one past its end appends
//   balance.bias_speed={tokens: 0 value: 0.001}            a whole message or list, in text format;
//   balance.bias_speed=[{...}, {...}]                      it replaces what was there
//   balance.bias_speed=                   empties a list, a message or a string
#ifndef JEVONS_CONFIGS_OVERRIDES_H_
#define JEVONS_CONFIGS_OVERRIDES_H_

#include <string>

#include "absl/status/status.h"

namespace google::protobuf {
class Message;
}

namespace jevons {

// Applies one assignment to `config`. Usage errors name the path and the nearest legal one; then `config` is
// unchanged.
absl::Status ApplyOverride(const std::string& assignment, google::protobuf::Message& config);

}  // namespace jevons

#endif  // JEVONS_CONFIGS_OVERRIDES_H_
