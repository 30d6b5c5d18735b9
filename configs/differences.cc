#include "configs/differences.h"

#include <google/protobuf/util/message_differencer.h>

#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"

namespace jevons {

std::string Differences(const google::protobuf::Message& before, const google::protobuf::Message& now) {
  std::string text;
  google::protobuf::util::MessageDifferencer differencer;
  differencer.ReportDifferencesToString(&text);
  if (differencer.Compare(before, now)) return "";
  return absl::StrReplaceAll(absl::StripSuffix(text, "\n"), {{"\n", "; "}});
}

}  // namespace jevons
