"""The OpenAPI document of an app: what `rpiserve.web.openapi.document` makes of its declarations."""
