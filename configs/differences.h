// What differs between two descriptions of a run.
#ifndef JEVONS_CONFIGS_DIFFERENCES_H_
#define JEVONS_CONFIGS_DIFFERENCES_H_

#include <google/protobuf/message.h>

#include <string>

namespace jevons {

// "modified: optimizer.learning_rate.peak: 0.001 -> 0.1; added: ...", or nothing. Both of one type.
std::string Differences(const google::protobuf::Message& before, const google::protobuf::Message& now);

}  // namespace jevons

#endif  // JEVONS_CONFIGS_DIFFERENCES_H_
