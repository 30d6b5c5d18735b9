# Writes OUTPUT, a C++ file that holds the bytes of INPUT as jevons::NAME.
file(READ ${INPUT} bytes HEX)
string(REGEX REPLACE "(..)" "\\\\x\\1" bytes "${bytes}")
string(REGEX REPLACE "((....){1,32})" "\"\\1\"\n" bytes "${bytes}")
file(WRITE ${OUTPUT} "#include <cstddef>\nnamespace jevons {\nextern const char ${NAME}[];\nextern const size_t ${NAME}Size;\nconst char ${NAME}[] =\n${bytes};\nconst size_t ${NAME}Size = sizeof ${NAME} - 1;\n}\n")
