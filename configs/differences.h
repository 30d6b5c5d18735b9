// What differs between two descriptions of a run.
#ifndef JEVONS_CONFIGS_DIFFERENCES_H_
#define JEVONS_CONFIGS_DIFFERENCES_H_

#include <google/protobuf/message.h>

#include <span>
#include <string>
#include <vector>

#include "configs/run.pb.h"

namespace jevons {

// "modified: optimizer.learning_rate.peak: 0.001 -> 0.1; added: ...", or nothing. Both of one type.
std::string Differences(const google::protobuf::Message& before, const google::protobuf::Message& now);

struct FieldValues {
  std::string path;                 // as in --set
  std::vector<std::string> values;  // of each config; "" where it is not set and has no default
};
// The fields that are not the same in all configs, in the order of run.proto; defaults count as values. What a run is called is no difference.
std::vector<FieldValues> DifferingFields(std::span<const RunConfig> configs);

}  // namespace jevons

#endif  // JEVONS_CONFIGS_DIFFERENCES_H_
