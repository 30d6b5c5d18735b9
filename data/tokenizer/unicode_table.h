// The generated table of unicode_table.cc, in the form in which it is stored.
#ifndef JEVONS_DATA_TOKENIZER_UNICODE_TABLE_H_
#define JEVONS_DATA_TOKENIZER_UNICODE_TABLE_H_

#include <cstdint>
#include <span>

namespace jevons {

// The classes of U+0000 to U+10FFFF as runs: length * 16 + CharClass.
std::span<const uint32_t> CharClassRuns();

}  // namespace jevons

#endif  // JEVONS_DATA_TOKENIZER_UNICODE_TABLE_H_
