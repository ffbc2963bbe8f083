// Addresses are relative to /docs, so that the page works below a proxy's prefix. Without
// validatorUrl, the page of a public address would show it to a validator on another host.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
});
