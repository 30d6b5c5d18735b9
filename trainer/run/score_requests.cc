#include "trainer/run/score_requests.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "data/tokenizer/encoder.h"
#include "data/tokenizer/unicode.h"
#include "kernels/base/strict_json.h"

namespace jevons {
namespace {

constexpr char kContext[] = "context", kContinuations[] = "continuations", kAnswer[] = "answer";

absl::StatusOr<ScoreRequest> ParseRequest(absl::string_view line, bool answers) {
  const auto json = ParseStrictJson(line);
  if (!json.ok()) return UsageError(json.status().message());
  if (!json->is_object()) return UsageError(absl::StrFormat("%s: it must be an object", ShownJson(*json)));
  for (const auto& [name, value] : json->items())
    if (name != kContext && name != kContinuations && name != kAnswer)
      return UsageError(absl::StrFormat("%s: there is no such field; there are context, continuations and answer", name));
  ScoreRequest request;
  const auto context = json->find(kContext), continuations = json->find(kContinuations), answer = json->find(kAnswer);
  if (context == json->end() || !context->is_string())
    return UsageError(context == json->end() ? "context is missing: it must be a string"
                                             : absl::StrFormat("context = %s: it must be a string", ShownJson(*context)));
  request.context = context->get<std::string>();
  if (continuations == json->end() || !continuations->is_array() || continuations->empty())
    return UsageError(
        continuations == json->end()
            ? "continuations is missing: it must be an array of strings"
            : absl::StrFormat("continuations = %s: it must be an array of one string or more", ShownJson(*continuations)));
  for (size_t i = 0; i < continuations->size(); ++i) {
    const nlohmann::json& text = (*continuations)[i];
    if (!text.is_string() || text.get_ref<const std::string&>().empty())
      return UsageError(absl::StrFormat("continuations[%d] = %s: it must be a string that is not empty", i, ShownJson(text)));
    request.continuations.push_back(text.get<std::string>());
  }
  if (answer == json->end())
    return answers ? absl::StatusOr<ScoreRequest>(UsageError("answer is missing: it must be the index of the right continuation"))
                   : request;
  if (!answer->is_number_unsigned() || answer->get<uint64_t>() >= request.continuations.size())
    return UsageError(absl::StrFormat("answer = %s: it must be the index of a continuation, 0 to %d", ShownJson(*answer),
                                      request.continuations.size() - 1));
  request.answer = answer->get<int64_t>();
  return request;
}

// Where the white space at the end of a text begins.
size_t EndOfText(absl::string_view text) {
  size_t end = 0;
  for (size_t at = 0; at < text.size();) {
    const DecodedChar next = DecodeUtf8(text.substr(at));
    at += next.size;
    if (CharClassTable::Get()[next.code_point] != CharClass::kSpace) end = at;
  }
  return end;
}

double LogLikelihood(const std::vector<TokenScore>& scores) {
  double sum = 0;
  for (const TokenScore& score : scores) sum += score.logprob;
  return sum;
}

// Of a share of `count`, from the deviation of a sample of zeros and ones.
std::optional<double> StandardError(double share, int64_t count) {
  if (count < 2) return std::nullopt;
  return std::sqrt(share * (1 - share) / static_cast<double>(count - 1));
}

}  // namespace

absl::StatusOr<std::vector<ScoreRequest>> ParseScoreRequests(const std::string& text, const std::string& path, bool answers) {
  std::vector<absl::string_view> lines = absl::StrSplit(text, '\n');
  if (lines.back().empty()) lines.pop_back();
  if (lines.empty()) return UsageError(absl::StrFormat("%s: there is no line in it; write a request in each", path));
  std::vector<ScoreRequest> requests;
  for (const absl::string_view line : lines) {
    const auto number = static_cast<int64_t>(requests.size()) + 1;
    absl::StatusOr<ScoreRequest> request = ParseRequest(line, answers);
    if (!request.ok()) return Annotate(request.status(), absl::StrFormat("%s, line %d", path, number));
    request->line = number;
    requests.push_back(*std::move(request));
  }
  return requests;
}

absl::StatusOr<EncodedRequests> EncodeScoreRequests(std::span<const ScoreRequest> requests, const std::string& path,
                                                    const Tokenizer& tokenizer, int64_t length) {
  constexpr EncodeOptions kOptions{.specials = SpecialText::kRecognized, .add_bos = false};
  EncodedRequests encoded;
  Encoder encoder(tokenizer);
  for (const ScoreRequest& request : requests) {
    const std::string context = request.context.substr(0, EndOfText(request.context));
    const size_t alone = encoder.Encode(context, kOptions).size();
    for (size_t i = 0; i < request.continuations.size(); ++i) {
      const auto refuse = [&](const std::string& why) {
        return UsageError(absl::StrFormat("%s, line %d: continuations[%d] %s", path, request.line, i, why));
      };
      std::vector<int32_t> tokens = encoder.Encode(request.context + request.continuations[i], kOptions);
      auto scored = static_cast<int64_t>(alone);
      const int64_t own = static_cast<int64_t>(tokens.size()) - scored;
      if (own <= 0) return refuse("has no token of its own after this context");
      if (own > length)
        return refuse(
            absl::StrFormat("has %d tokens, and the model was trained on %d at a time (data.sequence_length): shorten it, "
                            "or allow it by --set data.sequence_length=%d",
                            own, length, own));
      if (scored == 0) {  // nothing was said: a document begins where one ended
        tokens.insert(tokens.begin(), tokenizer.eos_id());
        scored = 1;
      }
      const int64_t surplus = static_cast<int64_t>(tokens.size()) - (length + 1);
      if (surplus > 0) {
        tokens.erase(tokens.begin(), tokens.begin() + surplus);
        scored -= surplus;
        ++encoded.shortened;
      }
      encoded.sequences.push_back({.tokens = std::move(tokens), .scored = scored});
    }
  }
  return encoded;
}

std::string ScoresLine(const ScoreRequest& request, std::span<const std::vector<TokenScore>> scores) {
  nlohmann::ordered_json line = {{"loglikelihoods", nlohmann::json::array()},
                                 {"tokens", nlohmann::json::array()},
                                 {"bytes", nlohmann::json::array()},
                                 {"greedy", nlohmann::json::array()}};
  for (size_t i = 0; i < scores.size(); ++i) {
    line["loglikelihoods"].push_back(LogLikelihood(scores[i]));
    line["tokens"].push_back(scores[i].size());
    line["bytes"].push_back(request.continuations[i].size());
    line["greedy"].push_back(
        std::all_of(scores[i].begin(), scores[i].end(), [](const TokenScore& score) { return score.likeliest; }));
  }
  return line.dump() + "\n";
}

TaskResult JudgeTask(std::span<const ScoreRequest> requests, std::span<const std::vector<TokenScore>> scores) {
  TaskResult result{.questions = static_cast<int64_t>(requests.size())};
  int64_t right = 0, right_normalized = 0;
  auto next = scores.begin();
  for (const ScoreRequest& request : requests) {
    std::vector<double> sums, per_byte;
    for (const std::string& text : request.continuations) {
      sums.push_back(LogLikelihood(*next++));
      per_byte.push_back(sums.back() / static_cast<double>(text.size()));
    }
    right += std::max_element(sums.begin(), sums.end()) - sums.begin() == *request.answer;
    right_normalized += std::max_element(per_byte.begin(), per_byte.end()) - per_byte.begin() == *request.answer;
  }
  result.accuracy = static_cast<double>(right) / static_cast<double>(result.questions);
  result.normalized = static_cast<double>(right_normalized) / static_cast<double>(result.questions);
  result.accuracy_error = StandardError(result.accuracy, result.questions);
  result.normalized_error = StandardError(result.normalized, result.questions);
  return result;
}

}  // namespace jevons
