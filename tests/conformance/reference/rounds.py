"""What only 2026-07-28 has: calls that take several rounds, each answered `input_required` until nothing is missing.

The suite names tools and keys. `requestState` is sealed by the SDK, which refuses what was tampered with.
"""

from mcp.server.mcpserver import Context, MCPServer
from mcp.types import ElicitResult, InputRequest, InputRequiredResult, InputResponse, ListRootsRequest, ListRootsResult

from tests.conformance.reference.questions import form, sample

NAME = form("What is your name?", {"name": {"type": "string"}}, ["name"])
CONFIRM = form("Please confirm", {"ok": {"type": "boolean"}}, ["ok"])


def missing(ctx: Context, questions: dict[str, InputRequest], state: str | None = None) -> InputRequiredResult | None:
    """What to return while answers are missing or of the wrong kind; None once all are there."""
    answers = ctx.input_responses or {}
    unanswered = {key: question for key, question in questions.items() if not fits(question, answers.get(key))}
    return InputRequiredResult(input_requests=unanswered, request_state=state) if unanswered else None


def fits(question: InputRequest, answer: InputResponse | None) -> bool:
    """Whether the answer is one to that question: a user's refusal is none here."""
    match question.method:
        case "elicitation/create":
            return isinstance(answer, ElicitResult) and answer.action == "accept"
        case "roots/list":
            return isinstance(answer, ListRootsResult)
        case "sampling/createMessage":
            return answer is not None and not isinstance(answer, ElicitResult | ListRootsResult)


def filled_in(ctx: Context, key: str, field: str) -> str:
    """What the user filled into one field of the form that was asked under `key`."""
    answer = (ctx.input_responses or {})[key]
    return str((answer.content or {})[field]) if isinstance(answer, ElicitResult) else ""


def furnish(server: MCPServer) -> None:
    """Adds everything of this room to the server."""
    add_single_rounds(server)
    add_states(server)

    @server.prompt(description="Asks for its context")
    def test_input_required_result_prompt(ctx: Context) -> str | InputRequiredResult:
        context = form("What context should the prompt use?", {"context": {"type": "string"}}, ["context"])
        return missing(ctx, {"user_context": context}) or f"Context: {filled_in(ctx, 'user_context', 'context')}"


def add_single_rounds(server: MCPServer) -> None:
    tool = server.tool(description="A fixture of the conformance suite", structured_output=False)

    @tool
    def test_input_required_result_elicitation(ctx: Context) -> str | InputRequiredResult:
        return missing(ctx, {"user_name": NAME}) or f"Hello, {filled_in(ctx, 'user_name', 'name')}!"

    @tool
    def test_input_required_result_sampling(ctx: Context) -> str | InputRequiredResult:
        question = sample("What is the capital of France?", 100)
        return missing(ctx, {"capital_question": question}) or "The model has answered."

    @tool
    def test_input_required_result_list_roots(ctx: Context) -> str | InputRequiredResult:
        if unanswered := missing(ctx, {"client_roots": ListRootsRequest()}):
            return unanswered
        answer = (ctx.input_responses or {})["client_roots"]
        assert isinstance(answer, ListRootsResult)
        return f"Roots: {', '.join(str(root.uri) for root in answer.roots)}"

    @tool
    def test_input_required_result_capabilities(ctx: Context) -> str | InputRequiredResult:
        can = ctx.client_capabilities
        questions: dict[str, InputRequest] = {}
        if can is not None and can.elicitation is not None:
            questions["user_name"] = NAME
        if can is not None and can.sampling is not None:
            questions["greeting"] = sample("Generate a greeting", 50)
        return missing(ctx, questions) or "All that the client can answer is answered."


def add_states(server: MCPServer) -> None:
    tool = server.tool(description="A fixture of the conformance suite", structured_output=False)

    @tool
    def test_input_required_result_request_state(ctx: Context) -> str | InputRequiredResult:
        unanswered = missing(ctx, {"confirm": CONFIRM}, state="asked to confirm")
        return unanswered or ("state-ok" if ctx.request_state == "asked to confirm" else "state lost")

    @tool
    def test_input_required_result_tampered_state(ctx: Context) -> str | InputRequiredResult:
        return missing(ctx, {"confirm": CONFIRM}, state="sealed") or "The state came back as it left."

    @tool
    def test_input_required_result_multiple_inputs(ctx: Context) -> str | InputRequiredResult:
        questions = {
            "user_name": NAME,
            "greeting": sample("Generate a greeting", 50),
            "client_roots": ListRootsRequest(),
        }
        return missing(ctx, questions, state="asked three") or "Three answers came."

    @tool
    def test_input_required_result_multi_round(ctx: Context) -> str | InputRequiredResult:
        if ctx.request_state is None:
            name = form("Step 1: What is your name?", {"name": {"type": "string"}}, ["name"])
            return InputRequiredResult(input_requests={"step1": name}, request_state="step 1")
        if ctx.request_state == "step 1":
            if unanswered := missing(ctx, {"step1": NAME}, state="step 1"):
                return unanswered
            colour = form("Step 2: What is your favorite color?", {"color": {"type": "string"}}, ["color"])
            name_given = filled_in(ctx, "step1", "name")
            return InputRequiredResult(input_requests={"step2": colour}, request_state=f"step 2 of {name_given}")
        if unanswered := missing(ctx, {"step2": CONFIRM}, state=ctx.request_state):
            return unanswered
        return f"{ctx.request_state.removeprefix('step 2 of ')} likes {filled_in(ctx, 'step2', 'color')}."
