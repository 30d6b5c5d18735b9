// Unicode normalization form C (Unicode 16.0, section 3.11), with the tables of Hugging Face's normalizers,
// which are older (nfc_table.cc): a tokenizer must see the text that its vocabulary was made from.
#ifndef JEVONS_DATA_TOKENIZER_NFC_H_
#define JEVONS_DATA_TOKENIZER_NFC_H_

#include <string>

#include "absl/strings/string_view.h"

namespace jevons {

// `text` in form C: `text` itself where it is so already, else a view of `scratch`, which is overwritten.
// Bytes that are not UTF-8 stay as they are and combine with nothing.
absl::string_view NormalizeNfc(absl::string_view text, std::string& scratch);

}  // namespace jevons

#endif  // JEVONS_DATA_TOKENIZER_NFC_H_
