// The names of a published checkpoint's small files.
#ifndef JEVONS_TRAINER_INTEROP_HF_FILES_H_
#define JEVONS_TRAINER_INTEROP_HF_FILES_H_

namespace jevons {

inline constexpr char kTokenizerJson[] = "tokenizer.json";
inline constexpr char kTokenizerConfigJson[] = "tokenizer_config.json";
inline constexpr char kGenerationConfigJson[] = "generation_config.json";
// What belongs to the tokenizer and to generation: taken over as it is where it is there.
inline constexpr const char* kTokenizerFiles[] = {kTokenizerJson, kTokenizerConfigJson, "special_tokens_map.json", "chat_template.jinja",
                                                  kGenerationConfigJson};

}  // namespace jevons

#endif  // JEVONS_TRAINER_INTEROP_HF_FILES_H_
