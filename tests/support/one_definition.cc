#include "tests/support/one_definition.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace jevons {
namespace {

struct Token {
  std::string text;
  int line;
};

bool IsWordCharacter(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }
bool IsWord(const std::string& token) { return !token.empty() && IsWordCharacter(token[0]); }

// Words, "::", "->" and single other characters; literals of characters become "". Comments and preprocessor lines are dropped.
std::vector<Token> TokensOf(const std::string& text) {
  std::vector<Token> tokens;
  int line = 1;
  bool line_is_empty = true;
  size_t i = 0;
  const auto skip_to = [&](size_t end) {
    for (end = std::min(end, text.size()); i < end; ++i) line += text[i] == '\n';
  };
  const auto starts = [&](const char* what) { return text.compare(i, std::char_traits<char>::length(what), what) == 0; };
  const auto add = [&](const std::string& token, size_t length) {
    tokens.push_back({token, line});
    line_is_empty = false;
    skip_to(i + length);
  };
  while (i < text.size()) {
    const char c = text[i];
    if (c == '\n') line_is_empty = true;
    if (std::isspace(static_cast<unsigned char>(c))) {
      skip_to(i + 1);
    } else if (starts("//")) {
      skip_to(text.find('\n', i));
    } else if (starts("/*")) {
      skip_to(text.find("*/", i) + 2);
    } else if (c == '#' && line_is_empty) {
      size_t end = text.find('\n', i);
      while (end != std::string::npos && text[end - 1] == '\\') end = text.find('\n', end + 1);
      skip_to(end);
    } else if (starts("R\"")) {
      const std::string close = ")" + text.substr(i + 2, text.find('(', i) - i - 2) + "\"";
      add("", text.find(close, i) + close.size() - i);
    } else if (c == '"' || c == '\'') {
      size_t end = i + 1;
      while (end < text.size() && text[end] != c) end += text[end] == '\\' ? 2 : 1;
      add("", end + 1 - i);
    } else if (IsWordCharacter(c)) {
      size_t end = i;
      const bool number = std::isdigit(static_cast<unsigned char>(c));
      while (end < text.size() && (IsWordCharacter(text[end]) || (number && text[end] == '\''))) ++end;
      add(text.substr(i, end - i), end - i);
    } else if (starts("::") || starts("->")) {
      add(text.substr(i, 2), 2);
    } else {
      add(std::string(1, c), 1);
    }
  }
  return tokens;
}

struct Definition {
  std::string name;  // with namespaces and, of a function, the types of its parameters
  std::string path;
  int line;
  bool plain_function = false;  // neither inline nor a template: the linker refuses a second one
};

bool IsHeader(const std::string& path) { return absl::EndsWith(path, ".h") || absl::EndsWith(path, ".cuh"); }

// Follows the declarations of one file at namespace scope.
class Parser {
 public:
  explicit Parser(const SourceFile& file) : path_(file.path), tokens_(TokensOf(file.text)) {}

  std::vector<Definition> Run() {
    if (absl::EndsWith(path_, ".proto")) {
      Messages();
    } else {
      while (at_ < tokens_.size()) Scope("", false);
    }
    return std::move(definitions_);
  }

 private:
  using Words = std::vector<std::string>;

  const std::string& Peek(size_t ahead = 0) const {
    static const std::string kEnd;
    return at_ + ahead < tokens_.size() ? tokens_[at_ + ahead].text : kEnd;
  }
  bool Take(const std::string& text) {
    if (at_ >= tokens_.size() || Peek() != text) return false;
    ++at_;
    return true;
  }

  // From an opening bracket to behind the closing one.
  void SkipBrackets() {
    int depth = 0;
    for (; at_ < tokens_.size(); ++at_) {
      const std::string& t = Peek();
      if (t == "(" || t == "[" || t == "{") ++depth;
      if ((t == ")" || t == "]" || t == "}") && --depth == 0) {
        ++at_;
        return;
      }
    }
  }

  void SkipPast(const char* end) {
    while (at_ < tokens_.size() && Peek() != end) {
      if (Peek() == "{" || Peek() == "(") {
        SkipBrackets();
      } else {
        ++at_;
      }
    }
    ++at_;
  }

  // The declarations up to the brace that closes a namespace, or to the end.
  void Scope(const std::string& prefix, bool internal) {
    while (at_ < tokens_.size() && !Take("}")) {
      if (Take(";")) continue;
      if (Peek() == "namespace" || (Peek() == "inline" && Peek(1) == "namespace")) {
        at_ += Peek() == "inline" ? 2 : 1;
        std::string name;
        while (at_ < tokens_.size() && Peek() != "{" && Peek() != "=") name += tokens_[at_++].text;
        if (Take("{")) {
          Scope(absl::StrCat(prefix, name, "::"), internal || name.empty());
        } else {
          SkipPast(";");
        }
      } else if (Peek() == "extern" && Peek(1).empty() && Peek(2) == "{") {
        at_ += 3;
        Scope(prefix, internal);
      } else {
        Declaration(prefix, internal);
      }
    }
  }

  // Behind `template <...>`; its parameters' names are added to `parameters`.
  void TemplateParameters(Words& parameters) {
    at_ += 2;
    int depth = 1;
    bool after_default = false;
    while (at_ < tokens_.size() && depth > 0) {
      const std::string& t = Peek();
      if (t == "(" || t == "{") {
        SkipBrackets();
        continue;
      }
      if (t == "<") ++depth;
      if (t == ">") --depth;
      const std::string& next = Peek(1);
      if (depth == 1 && IsWord(t) && !after_default && (next == "," || next == ">" || next == "=")) parameters.push_back(t);
      if (depth == 1 && t == "=") after_default = true;
      if (depth == 1 && t == ",") after_default = false;
      ++at_;
    }
  }

  void Declaration(const std::string& prefix, bool internal) {
    Words template_parameters;
    bool is_template = false;
    while (Peek() == "template" && Peek(1) == "<") {
      is_template = Peek(2) != ">" || is_template;
      TemplateParameters(template_parameters);
    }
    const int line = tokens_[std::min(at_, tokens_.size() - 1)].line;
    Words head;  // up to the name of what is declared, name included
    std::set<std::string> specifiers;
    int angles = 0;
    while (at_ < tokens_.size()) {
      const std::string t = Peek();
      const std::string last = head.empty() ? "" : head.back();
      if (t == "}") return;  // of the namespace: a macro that stands alone
      if (last == "operator") {
        std::string symbol = t;
        ++at_;
        while (at_ < tokens_.size() && Peek() != "(") symbol += tokens_[at_++].text;
        if (t == "(") symbol += tokens_[at_++].text;
        head.back() += symbol;
        continue;
      }
      if (t == "[" && Peek(1) == "[") {
        SkipBrackets();
        continue;
      }
      if (t == "(" && (last == "alignas" || last == "decltype" || last == "__attribute__" || last == "__launch_bounds__" ||
                       last == "explicit" || last == "requires" || angles > 0)) {
        SkipBrackets();
        if (angles == 0) head.pop_back();
        continue;
      }
      if (t == "<" && IsWord(last)) ++angles;
      if (t == ">" && angles > 0) --angles;
      if (angles == 0 && (t == ";" || t == "{" || t == "=" || t == "(" || t == "[")) break;
      if (angles == 0 && t == ":" && !IsType(head)) break;  // a bit-field or a label: none stands here
      head.push_back(t);
      if (angles == 0) specifiers.insert(t);
      ++at_;
    }
    const bool is_static = specifiers.count("static") || specifiers.count("HWY_API");
    const bool hidden = internal || is_static;
    if (IsType(head)) {
      const bool defined = Peek() == "{";
      if (defined && !hidden) Add(prefix + TypeName(head), line, false);
      SkipPast(";");
    } else if (Peek() == "(" && !specifiers.count("using") && !specifiers.count("typedef")) {
      const std::string parameters = Parameters(template_parameters);
      if (!FunctionBody()) return;
      const bool is_inline = specifiers.count("inline") || specifiers.count("constexpr") || specifiers.count("consteval") ||
                             specifiers.count("HWY_INLINE") || is_template;
      if (!hidden) Add(prefix + FunctionName(head) + "(" + parameters + ")", line, !is_inline);
    } else {
      // A variable, an alias or a concept. (An alias of the std kind, `using std::x;`, defines nothing.)
      const bool defines = specifiers.count("using") ? Peek() == "=" : !specifiers.count("extern") && !specifiers.count("friend");
      if (defines && !hidden && IsHeader(path_) && head.size() > 1 && IsWord(head.back()))
        Add(prefix + FunctionName(head), line, false);
      SkipPast(";");
    }
  }

  static bool IsTypeWord(const std::string& word) {
    return word == "struct" || word == "class" || word == "union" || word == "enum";
  }
  static bool IsType(const Words& head) { return !head.empty() && IsTypeWord(head[0]); }

  // Of `enum class Name : Base`, `struct Outer::Name<Argument> final`.
  static std::string TypeName(const Words& head) {
    std::string name;
    for (const std::string& word : head) {
      if (IsTypeWord(word) && name.empty()) continue;
      if (word == ":" || word == "final") break;
      name += word;
    }
    return name;
  }

  // The last name of `head` with the classes that qualify it and its template arguments.
  static std::string FunctionName(const Words& head) {
    size_t begin = head.size();
    int angles = 0;
    while (begin > 0) {
      const std::string& word = head[begin - 1];
      const bool joined = begin == head.size() || word == "::" || word == "~" || head[begin] == "::" || head[begin] == "<";
      if (angles == 0 && !joined) break;
      if (word == ">") ++angles;
      if (word == "<") --angles;
      --begin;
    }
    return absl::StrJoin(head.begin() + static_cast<ptrdiff_t>(begin), head.end(), "");
  }

  // From "(" to behind ")": the parameters' types, without their names and defaults. A template's parameters are numbered.
  std::string Parameters(const Words& template_parameters) {
    std::vector<std::string> types;
    Words type;
    bool in_default = false;
    const auto end_type = [&] {
      if (type.size() > 1 && IsWord(type.back()) && IsName(type[type.size() - 2], type.back())) type.pop_back();
      for (std::string& word : type) {
        for (size_t i = 0; i < template_parameters.size(); ++i) {
          if (word == template_parameters[i]) word = absl::StrCat("$", i);
        }
      }
      if (!type.empty()) types.push_back(absl::StrJoin(type, " "));
      type.clear();
      in_default = false;
    };
    int depth = 0;
    for (; at_ < tokens_.size(); ++at_) {
      const std::string& t = Peek();
      const bool opens = t == "(" || t == "[" || t == "{" || (t == "<" && !in_default);
      const bool closes = t == ")" || t == "]" || t == "}" || (t == ">" && !in_default);
      if (opens && depth++ == 0) continue;
      if (closes && --depth == 0) break;
      if (depth == 1 && t == ",") {
        end_type();
      } else if (depth == 1 && t == "=") {
        in_default = true;
      } else if (!in_default) {
        type.push_back(t);
      }
    }
    ++at_;
    end_type();
    return absl::StrJoin(types, ", ");
  }

  // Whether `word` behind `before` names a parameter, and is no part of its type.
  static bool IsName(const std::string& before, const std::string& word) {
    static const std::set<std::string> kTypeWords = {"const", "volatile", "int",    "long",   "short",   "char",
                                                     "bool",  "float",    "double", "signed", "unsigned"};
    static const std::set<std::string> kBeforeType = {"const", "volatile", "struct", "class", "enum", "typename"};
    return before != "::" && !kTypeWords.count(word) && !kBeforeType.count(before);
  }

  // Behind a declaration's parameters: skips what follows. True if a body was there.
  bool FunctionBody() {
    bool initializers = false;
    std::string last = ")";
    while (at_ < tokens_.size()) {
      const std::string t = Peek();
      if (t == ";" || t == "=") {
        SkipPast(";");
        return false;
      }
      if (t == "}") return false;  // of the namespace: what stood here was a macro
      if (t == ":") initializers = true;
      if (t == "{") {
        const bool initializer = initializers && (IsWord(last) || last == ">");
        SkipBrackets();
        if (!initializer) return true;
        last = "}";
      } else if (t == "(") {
        SkipBrackets();
        last = ")";
      } else {
        last = t;
        ++at_;
      }
    }
    return false;
  }

  void Messages() {
    std::string prefix;
    while (at_ < tokens_.size()) {
      if (Take("package")) {
        while (at_ < tokens_.size() && !Take(";")) prefix += Peek() == "." ? "::" : Peek(), ++at_;
        prefix += "::";
      } else if ((Peek() == "message" || Peek() == "enum") && Peek(2) == "{") {
        Add(prefix + Peek(1), tokens_[at_].line, false);
        at_ += 2;
        SkipBrackets();
      } else {
        ++at_;
      }
    }
  }

  void Add(const std::string& name, int line, bool plain_function) {
    definitions_.push_back({name, path_, line, plain_function && !IsHeader(path_)});
  }

  std::string path_;
  std::vector<Token> tokens_;
  size_t at_ = 0;
  std::vector<Definition> definitions_;
};

}  // namespace

std::vector<std::string> NamesDefinedTwice(const std::vector<SourceFile>& files) {
  std::map<std::string, std::vector<Definition>> by_name;
  for (const SourceFile& file : files) {
    for (Definition& d : Parser(file).Run()) by_name[d.name].push_back(std::move(d));
  }
  std::vector<std::string> twice;
  for (const auto& [name, definitions] : by_name) {
    for (size_t i = 1; i < definitions.size(); ++i) {
      for (size_t j = 0; j < i; ++j) {
        const Definition &a = definitions[j], &b = definitions[i];
        if (a.path == b.path || (a.plain_function && b.plain_function)) continue;
        twice.push_back(absl::StrFormat("%s:%d and %s:%d define %s", a.path, a.line, b.path, b.line, name));
      }
    }
  }
  return twice;
}

}  // namespace jevons
