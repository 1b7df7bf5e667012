// Blobs, queues and the tables of the Functions host. No keys, no public blobs, TLS 1.2.

@maxLength(24)
param name string
param location string
param tags object

@allowed([
  'Standard_LRS'
  'Standard_ZRS'
])
param sku string

@description('True: the firewall is shut, and what is not listed comes over a private endpoint.')
param privateNetwork bool

@description('IPv4 addresses or ranges that may reach the account through the firewall: the sites of the gateways.')
param allowedAddresses array

@description('Edge crops are deleted so many days after they were written.')
param candidateRetentionDays int

@description('Log Analytics workspace of the write logs, which the alerts are computed from.')
param workspaceId string

// Names that the code uses too: shared/domain.py and shared/messages.py. tests/unit/infra compares them.
var dataContainers = [
  'candidates'
  'dataset'
  'models'
  'erasures'
  'groups'
]
var hostContainers = [
  'deployments'
  'eventgrid-deadletters'
]
var queueNames = [
  'train-requests'
  'train-requests-poison'
  'alert-requests'
  'alert-requests-poison'
  'group-requests'
  'group-requests-poison'
  'webjobs-blobtrigger-poison'
]

resource account 'Microsoft.Storage/storageAccounts@2023-05-01' = {
  //checkov:skip=CKV_AZURE_35:denied with privateNetwork, which the check cannot evaluate; without it gateways come from anywhere, with Entra identities or short-lived user delegation signatures only
  //checkov:skip=CKV_AZURE_59:no container is public (allowBlobPublicAccess false); the endpoint stays reachable so that listed gateways and Event Grid's dead letters pass the firewall
  //checkov:skip=CKV_AZURE_206:zone redundant by a parameter; copies in a second region would keep faces outside the region that was agreed on
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: {
    name: sku
  }
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    publicNetworkAccess: 'Enabled'
    supportsHttpsTrafficOnly: true
    networkAcls: {
      bypass: 'AzureServices'
      defaultAction: privateNetwork ? 'Deny' : 'Allow'
      ipRules: [for address in allowedAddresses: {
        action: 'Allow'
        value: address
      }]
    }
    sasPolicy: {
      expirationAction: 'Log'
      sasExpirationPeriod: '0.02:00:00'
    }
  }
}

// Soft delete and versions stay off: what is erased has to be gone, and candidates would be paid for twice.
resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2023-05-01' = {
  parent: account
  name: 'default'
  properties: {
    containerDeleteRetentionPolicy: {
      enabled: true
      days: 7
    }
    deleteRetentionPolicy: {
      enabled: false
    }
    isVersioningEnabled: false
  }
}

resource containers 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' = [for container in concat(dataContainers, hostContainers): {
  parent: blobs
  name: container
  properties: {
    publicAccess: 'None'
  }
}]

resource queueService 'Microsoft.Storage/storageAccounts/queueServices@2023-05-01' = {
  parent: account
  name: 'default'
}

resource queues 'Microsoft.Storage/storageAccounts/queueServices/queues@2023-05-01' = [for queue in queueNames: {
  parent: queueService
  name: queue
}]

resource lifecycle 'Microsoft.Storage/storageAccounts/managementPolicies@2023-05-01' = {
  parent: account
  name: 'default'
  dependsOn: [
    containers
  ]
  properties: {
    policy: {
      rules: [
        {
          name: 'expire-candidates'
          type: 'Lifecycle'
          enabled: true
          definition: {
            filters: {
              blobTypes: [
                'blockBlob'
              ]
              prefixMatch: [
                'candidates/'
              ]
            }
            actions: {
              baseBlob: {
                delete: {
                  daysAfterModificationGreaterThan: candidateRetentionDays
                }
              }
            }
          }
        }
        {
          name: 'expire-deadletters'
          type: 'Lifecycle'
          enabled: true
          definition: {
            filters: {
              blobTypes: [
                'blockBlob'
              ]
              prefixMatch: [
                'eventgrid-deadletters/'
              ]
            }
            actions: {
              baseBlob: {
                delete: {
                  daysAfterModificationGreaterThan: 30
                }
              }
            }
          }
        }
      ]
    }
  }
}

// Writes only: they tell when a candidate arrived, when the gallery changed and when a model was published.
resource blobLogs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: blobs
  name: 'writes'
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        category: 'StorageWrite'
        enabled: true
      }
    ]
  }
}

resource queueLogs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: queueService
  name: 'messages'
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        category: 'StorageWrite'
        enabled: true
      }
      {
        category: 'StorageDelete'
        enabled: true
      }
    ]
  }
}

output id string = account.id
output name string = account.name
output blobEndpoint string = account.properties.primaryEndpoints.blob
output queueEndpoint string = account.properties.primaryEndpoints.queue
output tableEndpoint string = account.properties.primaryEndpoints.table
