// The start page: this server's own address in the first command, and a button at each command that copies it.

document.getElementById('base').textContent = `BASE=${location.origin}/api/v1`

for (const pre of document.querySelectorAll('pre')) {
  const command = document.createElement('div')
  const button = document.createElement('button')
  command.className = 'command'
  button.type = 'button'
  button.textContent = 'Copy'
  button.setAttribute('aria-live', 'polite')
  button.addEventListener('click', async () => {
    button.textContent = (await copy(pre)) ? 'Copied' : 'Failed'
    setTimeout(() => (button.textContent = 'Copy'), 2000)
  })
  pre.replaceWith(command)
  command.append(pre, button)
}

// Copies the text of `element`. Over plain HTTP, where browsers have no clipboard for pages, it is selected and copied as by hand.
async function copy(element) {
  try {
    await navigator.clipboard.writeText(element.textContent)
    return true
  } catch {
    getSelection().selectAllChildren(element)
    return document.execCommand('copy')
  }
}
