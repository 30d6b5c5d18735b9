// The fields of a run as run.proto documents them: the comments beside the fields, taken along when the program is built.
#ifndef JEVONS_CONFIGS_FIELDS_H_
#define JEVONS_CONFIGS_FIELDS_H_

#include <string>
#include <utility>
#include <vector>

namespace jevons {

struct FieldDoc {
  std::string path;     // as in --set; data.mixture[0].weight for an entry of a list
  std::string type;     // "int64", "double", "bool", "string", an enum's name, "list of DatasetConfig"
  std::string unit;     // "tokens"; "" where there is none
  std::string value;    // the default; "" where there is none: then it must be set, or counts as 0 or as empty
  std::string meaning;  // what stands before the first semicolon of the comment, without the unit
  std::string reason;   // what stands behind it: what a special value means, why the default is what it is
  std::vector<std::pair<std::string, std::string>> choices;  // an enum's values, each with its meaning
};

struct FieldGroup {
  std::string path;   // "model.attention"
  std::string about;  // the comment before the message
  std::vector<FieldDoc> fields;
};

// In the order of run.proto; a message's own fields, then the groups below it.
std::vector<FieldGroup> RunFields();

}  // namespace jevons

#endif  // JEVONS_CONFIGS_FIELDS_H_
