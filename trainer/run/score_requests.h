// Texts that might go on from others, and what a model makes of them, as evaluation harnesses ask. A file has one JSON object a line:
//
//   in    {"context": "In the", "continuations": [" beginning", " end"]}    and for tasks "answer": 0, the index of the right one
//   out   {"loglikelihoods": [-3.25, -9.5], "tokens": [1, 1], "bytes": [10, 4], "greedy": [true, false]}
//
// A log-likelihood is in nats, the sum over the continuation's tokens; greedy: each of them is the model's likeliest.
#ifndef JEVONS_TRAINER_RUN_SCORE_REQUESTS_H_
#define JEVONS_TRAINER_RUN_SCORE_REQUESTS_H_

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/tokenizer/tokenizer.h"
#include "kernels/base/status.h"
#include "trainer/step/train_step.h"

namespace jevons {

struct ScoreRequest {
  int64_t line = 0;  // of its file, from 1
  std::string context;
  std::vector<std::string> continuations;  // one at least
  std::optional<int64_t> answer;           // an index of them
};

// UsageError naming file, line and field. answers: each line must have one.
absl::StatusOr<std::vector<ScoreRequest>> ParseScoreRequests(const std::string& text, const std::string& path, bool answers);

struct EncodedRequests {
  std::vector<TrainStep::ScoredSequence> sequences;  // of all continuations of all requests, in order
  int64_t shortened = 0;                             // of which the context has lost its beginning
};

// As lm-evaluation-harness cuts texts: white space at a context's end belongs to the continuation, whose tokens are those of both together
// behind as many as the context alone has. An empty context is the end of a document. Contexts are cut at their beginning so that a
// sequence has at most `length` tokens before its last. UsageError naming file, line and field where a continuation has no tokens, or more
// than `length`.
absl::StatusOr<EncodedRequests> EncodeScoreRequests(std::span<const ScoreRequest> requests, const std::string& path,
                                                    const Tokenizer& tokenizer, int64_t length);

// A line of the output. scores: of the request's continuations.
std::string ScoresLine(const ScoreRequest& request, std::span<const std::vector<TokenScore>> scores);

// Share of the requests whose answer has the largest log-likelihood, the first of equal ones; and the largest per byte. Standard errors of
// both, from the sample's deviation; none of a single request.
struct TaskResult {
  int64_t questions = 0;
  double accuracy = 0, normalized = 0;
  std::optional<double> accuracy_error = {}, normalized_error = {};
};
// requests: with answers, one at least; scores: of all their continuations, in order.
TaskResult JudgeTask(std::span<const ScoreRequest> requests, std::span<const std::vector<TokenScore>> scores);

}  // namespace jevons

#endif  // JEVONS_TRAINER_RUN_SCORE_REQUESTS_H_
