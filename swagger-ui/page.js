// Starts Swagger UI over the OpenAPI document in the page, and folds what failures look like.

import SwaggerUI from 'swagger-ui'

// The colours are those of the system, also when they change.
const dark = window.matchMedia('(prefers-color-scheme: dark)')
const followSystem = () => document.documentElement.classList.toggle('dark-mode', dark.matches)
dark.addEventListener('change', followSystem)
followSystem()

// Every failure has one shape, which takes more room than the rest of an operation when it is shown for each status. Its row is one
// line until it is opened. What a server has answered is never folded.
const FoldedFailures = (system) => ({
  wrapComponents: {
    response: (Response, { React }) =>
      class FoldedResponse extends React.Component {
        constructor(props) {
          super(props)
          this.state = { open: false }
        }

        render() {
          const { code, response } = this.props
          if (code < '400' || this.state.open) {
            return React.createElement(Response, this.props)
          }
          const Markdown = system.getComponent('Markdown', true)
          const open = { type: 'button', className: 'failure-opener', onClick: () => this.setState({ open: true }) }
          return React.createElement('tr', { className: 'response folded', 'data-code': code },
            React.createElement('td', { className: 'response-col_status' }, code),
            React.createElement('td', { className: 'response-col_description' },
              React.createElement('div', { className: 'response-col_description__inner' },
                React.createElement(Markdown, { source: response.get('description') })),
              React.createElement('button', open, 'Example')),
            React.createElement('td', { className: 'response-col_links' }))
        }
      },
  },
})

SwaggerUI({
  spec: JSON.parse(document.getElementById('document').textContent),
  dom_id: '#swagger-ui',
  deepLinking: true,
  displayRequestDuration: true,
  // A reload keeps the token, in this browser, until one logs out in the dialog.
  persistAuthorization: true,
  // The schemas at the end are there, closed.
  defaultModelsExpandDepth: 0,
  plugins: [FoldedFailures],
})
