// The second pass: the documents' tokens, each document ended by the end-of-sentence token, into two token
// files.
#ifndef JEVONS_DATA_PREPARE_ENCODE_H_
#define JEVONS_DATA_PREPARE_ENCODE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "data/prepare/corpus.h"
#include "data/prepare/dataset_info.h"
#include "data/prepare/split.h"
#include "data/tokenizer/tokenizer.h"

namespace jevons {

struct EncodedCorpus {
  SplitInfo train;
  SplitInfo validation;
};

// Writes FOLDER/train.bin and .idx, and FOLDER/validation.bin and .idx if the split has a validation side, in
// the order of the documents. Integrity error if there are not `documents` of them any more.
absl::StatusOr<EncodedCorpus> EncodeCorpus(const Corpus& corpus, const Tokenizer& tokenizer, const ValidationSplit& split,
                                           int64_t documents, const std::string& folder);

}  // namespace jevons

#endif  // JEVONS_DATA_PREPARE_ENCODE_H_
