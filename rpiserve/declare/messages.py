"""Declaring what answers messages: the actions of a service, and what listens to channels."""

from collections.abc import Callable

import attrs

from rpiserve.declare.base import TIME_LIMIT, AnyFunction, Declarations, checked_seconds, name_of, written
from rpiserve.declare.handler import UserFunction
from rpiserve.declare.names import checked_bus_name, checked_channel
from rpiserve.declare.payload import Payload, payload_of
from rpiserve.errors import DeclarationError, MessageError


@attrs.frozen(eq=False)
class Action:
    """What answers requests.

    Attributes:
        function: what is called; its name is the action's.
        payload: what it is given.
        timeout: seconds that it may take.
    """

    function: UserFunction
    payload: Payload
    timeout: float


@attrs.frozen(eq=False)
class Listener:
    """What is called with the messages on some channels.

    Attributes:
        function: what is called.
        channels: the names of the channels, and patterns of names.
        payload: what it is given.
        timeout: seconds that it may take.
        ordered: whether it takes one message after the other.
    """

    function: UserFunction
    channels: list[str]
    payload: Payload
    timeout: float
    ordered: bool


class MessageDeclarations(Declarations):
    """The actions and listeners of an app."""

    def __init__(self) -> None:
        super().__init__()
        self.actions: dict[str, Action] = {}
        self.listeners: list[Listener] = []

    @written("@app.action('a_name') above the function")
    def action(
        self, name: str, *, timeout: float = TIME_LIMIT, reactor: bool = False
    ) -> Callable[[AnyFunction], AnyFunction]:
        """Declare a function that answers the requests for an action of this service.

        It takes nothing, or one argument: the request, or, if that is annotated as a dataclass, Struct or TypedDict,
        the payload as one, checked. What it returns is the answer, unless it has given one through ``response``.
        Calls may overlap.

        Args:
            name: the action's name: letters, digits, ``_``, ``.`` and ``-``, at most 64.
            timeout: seconds after which the caller is answered in any case, from the arrival of the request.
            reactor: run a plain ``def`` on the reactor, where it must not block.

        Returns:
            A decorator that returns the function as it is.

        Raises:
            DeclarationError: an argument is wrong, or the name is taken.
        """
        try:
            checked_bus_name(name, "an action")
        except MessageError as error:
            raise DeclarationError(str(error)) from None
        timeout = checked_seconds(name, "timeout", timeout)

        def declare(function: AnyFunction) -> AnyFunction:
            self.check_open()
            if name in self.actions:
                raise DeclarationError(f"the action {name!r} is declared already; give this one another name")
            user_function = UserFunction.declare(name, function, reactor=reactor, arguments=None)
            self.actions[name] = Action(user_function, payload_of(function, name), timeout)
            return function

        return declare

    @written("@app.listen('a.channel') above the function")
    def listen(
        self, channel: str, *, timeout: float = TIME_LIMIT, ordered: bool = False, reactor: bool = False
    ) -> Callable[[AnyFunction], AnyFunction]:
        """Declare a function that is called with each message on a channel.

        It takes nothing, or one argument: the message, a dict; or, if that is annotated as a dataclass, Struct or
        TypedDict, one of these, checked. Used several times above the same function, that gets each message once.

        Args:
            channel: the name of a channel, or a pattern such as ``sensors.*``.
            timeout: seconds that a call may take.
            ordered: take one message after the other, in the order of their arrival. Otherwise calls may overlap.
            reactor: run a plain ``def`` on the reactor, where it must not block.

        Returns:
            A decorator that returns the function as it is.

        Raises:
            DeclarationError: an argument is wrong, or the function listens to this channel already, or to another one
                with other options.
        """
        try:
            checked_channel(channel)
        except MessageError as error:
            raise DeclarationError(str(error)) from None
        timeout = checked_seconds(f"listen({channel!r})", "timeout", timeout)

        def declare(function: AnyFunction) -> AnyFunction:
            self.check_open()
            known = next((each for each in self.listeners if each.function.call == function), None)
            if known is None:
                name = self.free_name(name_of(function))
                user_function = UserFunction.declare(name, function, reactor=reactor, arguments=None)
                listener = Listener(user_function, [channel], payload_of(function, name), timeout, ordered)
                self.claim(name)
                self.listeners.append(listener)
                return function
            name = known.function.name
            if channel in known.channels:
                raise DeclarationError(f"{name} listens to {channel!r} already")
            where = UserFunction.declare(name, function, reactor=reactor, arguments=None).where
            if (timeout, ordered, where) != (known.timeout, known.ordered, known.function.where):
                raise DeclarationError(f"{name}: timeout, ordered and reactor have to be the same for all its channels")
            known.channels.append(channel)
            return function

        return declare
