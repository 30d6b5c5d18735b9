// The stages around the model in a tokenizer.json, from JSON and back: pre-tokenizer, post-processor, added
// tokens, normalizer. What this program would not do as Hugging Face does is an integrity error that names
// the field.
#ifndef JEVONS_DATA_TOKENIZER_TOKENIZER_JSON_STAGES_H_
#define JEVONS_DATA_TOKENIZER_TOKENIZER_JSON_STAGES_H_

#include <initializer_list>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "data/tokenizer/tokenizer.h"
#include "nlohmann/json.hpp"

namespace jevons {

// A member of an object, null if it is absent (or if `object` is none).
const nlohmann::json& Member(const nlohmann::json& object, const std::string& key);
// Integrity error unless the member is one of `legal`; the first is named as the remedy.
absl::Status Expect(const nlohmann::json& object, absl::string_view where, const char* key,
                    std::initializer_list<nlohmann::json> legal);
// Integrity error unless `object` is one and has no other keys.
absl::Status ExpectKeys(const nlohmann::json& object, absl::string_view where, std::initializer_list<const char*> known);

// Whether text is brought to form C.
absl::StatusOr<bool> ReadNormalizer(const nlohmann::json& json);
absl::StatusOr<Pretokenizer> ReadPretokenizer(const nlohmann::json& json);
absl::StatusOr<TextTemplate> ReadPostProcessor(const nlohmann::json& json);
absl::StatusOr<std::vector<AddedToken>> ReadAddedTokens(const nlohmann::json& json);

}  // namespace jevons

#endif  // JEVONS_DATA_TOKENIZER_TOKENIZER_JSON_STAGES_H_
