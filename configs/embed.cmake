# Writes OUTPUT, a C++ file that holds the bytes of INPUT as jevons::NAME, and their number as jevons::NAMESize.
cmake_minimum_required(VERSION 3.25)
file(READ ${INPUT} bytes HEX)
string(REGEX REPLACE "(..)" "\\\\x\\1" bytes "${bytes}")
string(REPEAT "...." 32 line)
string(REGEX REPLACE "(${line})" "\\1\"\n\"" bytes "${bytes}")
file(WRITE ${OUTPUT} "#include <cstddef>
namespace jevons {
extern const char ${NAME}[];
extern const size_t ${NAME}Size;
const char ${NAME}[] =
\"${bytes}\";
const size_t ${NAME}Size = sizeof ${NAME} - 1;
}  // namespace jevons
")
