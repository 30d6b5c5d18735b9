// A published checkpoint's small files: their names, and how they are read.
#ifndef JEVONS_TRAINER_FILES_HF_FILES_H_
#define JEVONS_TRAINER_FILES_HF_FILES_H_

#include <cstdint>
#include <string>

#include "trainer/files/file_system.h"

namespace jevons {

inline constexpr char kConfigJson[] = "config.json";
inline constexpr char kTokenizerJson[] = "tokenizer.json";
inline constexpr char kTokenizerConfigJson[] = "tokenizer_config.json";
inline constexpr char kGenerationConfigJson[] = "generation_config.json";
// What belongs to the tokenizer and to generation: taken over as it is where it is there.
inline constexpr const char* kTokenizerFiles[] = {kTokenizerJson, kTokenizerConfigJson, "special_tokens_map.json",
                                                  "chat_template.jinja", kGenerationConfigJson};
inline constexpr int64_t kMaxSmallFileBytes = int64_t{1} << 30;  // tokenizers are the largest: some ten MB

// All bytes of the text file. IntegrityError where it is of another kind, a Git LFS pointer for example, or longer than that.
absl::StatusOr<std::string> ReadSmallFile(FileSystem& files, const std::string& path);

}  // namespace jevons

#endif  // JEVONS_TRAINER_FILES_HF_FILES_H_
